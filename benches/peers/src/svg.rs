//! Plots as SVG text: panels side by side, each with a title, named axes, and a logarithmic scale both ways.

use std::fmt::Write;

pub struct Panel {
    pub title: String,
    pub across: &'static str,
    pub upwards: &'static str,
    pub series: Vec<Series>,
}

pub struct Series {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 540.0;
const HEIGHT: f64 = 360.0;
/// Left, right, top and bottom of the frame inside a panel.
const FRAME: (f64, f64, f64, f64) = (84.0, 496.0, 72.0, 290.0);
const COLOURS: [&str; 3] = ["#0b5cad", "#c2410c", "#4d7c0f"];

/// A page of panels, two in a row.
pub fn page(title: &str, panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(2);
    let (width, height) = (2.0 * WIDTH, 56.0 + rows as f64 * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{}\" y=\"36\" font-size=\"20\" font-weight=\"bold\" text-anchor=\"middle\">{title}</text>\n",
        width / 2.0
    );
    for (place, panel) in panels.iter().enumerate() {
        let (x, y) = ((place % 2) as f64 * WIDTH, 56.0 + (place / 2) as f64 * HEIGHT);
        writeln!(svg, "<g transform=\"translate({x} {y})\">").unwrap();
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// An axis from a power of ten to a power of ten.
struct Axis {
    from: i32,
    to: i32,
    start: f64,
    end: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let low = values.clone().fold(f64::MAX, f64::min).max(1e-3);
        let high = values.fold(low, f64::max);
        let from = low.log10().floor() as i32;
        let to = (high.log10().ceil() as i32).max(from + 1);
        Self { from, to, start, end }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.max(1e-3).log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        self.start + part * (self.end - self.start)
    }

    /// Places and labels: powers of ten, and twice and five times as much where there is room.
    fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let steps: &[f64] = if self.to - self.from <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (self.from..=self.to).map(|power| 10_f64.powi(power));
        let values = powers.flat_map(move |power| steps.iter().map(move |step| step * power));
        let last = 10_f64.powi(self.to) * 1.001;
        values.filter(move |value| *value <= last).map(|value| (self.place(value), label(value)))
    }
}

fn label(value: f64) -> String {
    match value.round() {
        millions if millions >= 1e6 => format!("{} M", millions / 1e6),
        thousands if thousands >= 1e3 => format!("{},000", thousands / 1e3),
        whole if whole >= 1.0 => format!("{whole}"),
        _ => format!("{value:.3}"),
    }
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        let (left, right, top, bottom) = FRAME;
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let across = Axis::over(points().map(|point| point.0), left, right);
        let upwards = Axis::over(points().map(|point| point.1), bottom, top);
        let middle = f64::midpoint(left, right);
        writeln!(
            svg,
            "<text x=\"{middle}\" y=\"22\" font-size=\"15\" font-weight=\"bold\" text-anchor=\"middle\">{}</text>",
            self.title
        )
        .unwrap();
        for (x, label) in across.ticks() {
            writeln!(
                svg,
                "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            )
            .unwrap();
        }
        for (y, label) in upwards.ticks() {
            writeln!(
                svg,
                "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 8.0,
                y + 4.0
            )
            .unwrap();
        }
        let (width, height, centre) = (right - left, bottom - top, f64::midpoint(top, bottom));
        writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#888\"/>\n\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {centre}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            bottom + 40.0,
            self.across,
            self.upwards
        )
        .unwrap();
        let mut x = left;
        for (series, colour) in self.series.iter().zip(COLOURS) {
            series.draw(svg, colour, &across, &upwards);
            writeln!(
                svg,
                "<path d=\"M{x} 46h24\" stroke=\"{colour}\" stroke-width=\"2.5\"/><circle cx=\"{}\" cy=\"46\" r=\"4\" \
                 fill=\"{colour}\"/><text x=\"{}\" y=\"50\">{}</text>",
                x + 12.0,
                x + 32.0,
                series.name
            )
            .unwrap();
            x += 56.0 + 8.0 * series.name.len() as f64;
        }
    }
}

impl Series {
    fn draw(&self, svg: &mut String, colour: &str, across: &Axis, upwards: &Axis) {
        let places: Vec<_> = self.points.iter().map(|(x, y)| (across.place(*x), upwards.place(*y))).collect();
        let line: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
            line.join(" ")
        )
        .unwrap();
        for (x, y) in places {
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>").unwrap();
        }
    }
}

//! The picture of the study: what each policy makes of a case as its knob is turned, and the hull of all of them.

use std::fmt::Write;

/// One policy, as its knob is turned.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    /// Loads per key and mean latency in α, by what the knob is set to.
    pub(crate) points: Vec<(f64, f64)>,
    /// Which of them is the default.
    pub(crate) usual: Option<usize>,
}

pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) curves: Vec<Curve>,
}

const WIDE: f64 = 430.0;
const HIGH: f64 = 300.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 18.0;
const BELOW: f64 = 48.0;
const LEGEND: f64 = 62.0;

/// The least latency that can be had for at most so many loads, mixtures of policies allowed.
fn hull(curves: &[Curve]) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = curves.iter().flat_map(|curve| curve.points.clone()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut hull: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if hull.last().is_some_and(|last| last.1 <= point.1) {
            continue; // more loads for nothing
        }
        while let [.., a, b] = hull[..] {
            if (b.0 - a.0) * (point.1 - a.1) > (b.1 - a.1) * (point.0 - a.0) {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

fn path(points: &[(f64, f64)], place: impl Fn((f64, f64)) -> (f64, f64)) -> String {
    points.iter().enumerate().fold(String::new(), |mut path, (number, point)| {
        let (x, y) = place(*point);
        write!(path, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" }).unwrap();
        path
    })
}

/// A number with as many digits as it needs.
fn figure(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

fn panel(svg: &mut String, panel: &Panel, left: f64, top: f64) {
    let all = || panel.curves.iter().flat_map(|curve| &curve.points);
    let (mut least, mut most, mut high) = (f64::INFINITY, 0.0_f64, 0.0_f64);
    for (loads, latency) in all() {
        (least, most, high) = (least.min(*loads), most.max(*loads), high.max(*latency));
    }
    let (least, most) = (least.log2().floor(), most.log2().ceil());
    let step = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0].into_iter().find(|step| high / step <= 6.0).unwrap_or(20.0);
    let high = (high / step).ceil() * step;
    let place = |(loads, latency): (f64, f64)| {
        let x = left + LEFT + (loads.log2() - least) / (most - least) * (WIDE - LEFT - RIGHT);
        (x, top + HIGH - BELOW - latency / high * (HIGH - TOP - BELOW))
    };
    let (floor, end) = (top + HIGH - BELOW, left + WIDE - RIGHT);
    writeln!(svg, r#"<text x="{}" y="{}" class="t">{}</text>"#, left + LEFT, top + 24.0, panel.title).unwrap();
    let mut tick = 0.0;
    while tick <= high + step / 2.0 {
        let y = place((least.exp2(), tick)).1;
        writeln!(svg, r#"<path d="M{:.1} {y:.1}H{end:.1}" class="g"/>"#, left + LEFT).unwrap();
        writeln!(svg, r#"<text x="{:.1}" y="{:.1}" class="y">{}</text>"#, left + LEFT - 6.0, y + 4.0, figure(tick))
            .unwrap();
        tick += step;
    }
    let mut power = least;
    while power <= most {
        let x = place((power.exp2(), 0.0)).0;
        writeln!(svg, r#"<path d="M{x:.1} {:.1}V{floor:.1}" class="g"/>"#, top + TOP).unwrap();
        let label = if power < 0.0 { format!("1/{}", (-power).exp2()) } else { figure(power.exp2()) };
        writeln!(svg, r#"<text x="{x:.1}" y="{:.1}" class="x">{label}</text>"#, floor + 16.0).unwrap();
        power += 1.0;
    }
    let middle = left + LEFT + (WIDE - LEFT - RIGHT) / 2.0;
    writeln!(svg, r#"<text x="{middle:.1}" y="{:.1}" class="x">loads per key</text>"#, floor + 36.0).unwrap();
    let (x, y) = (left + 16.0, top + TOP + (HIGH - TOP - BELOW) / 2.0);
    writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" class="x" transform="rotate(-90 {x:.1} {y:.1})">mean latency, in loads</text>"#
    )
    .unwrap();
    writeln!(svg, r#"<path d="{}" class="h"/>"#, path(&hull(&panel.curves), place)).unwrap();
    for curve in &panel.curves {
        let Curve { colour, points, usual, .. } = curve;
        writeln!(svg, r#"<path d="{}" stroke="{colour}" class="c"/>"#, path(points, place)).unwrap();
        for (number, point) in points.iter().enumerate() {
            let ((x, y), r) = (place(*point), if *usual == Some(number) { 5.5 } else { 2.5 });
            writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{r}" fill="{colour}"/>"#).unwrap();
        }
    }
}

/// Two panels a row, and what the colours mean above them.
pub(crate) fn draw(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(2) as f64;
    let (wide, high) = (2.0 * WIDE, LEGEND + rows * HIGH);
    let mut svg = format!(
        r##"<svg id="study" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12">
<style>#study .t{{font-size:14px;font-weight:bold}}#study .x{{text-anchor:middle}}#study .y{{text-anchor:end}}#study .g{{stroke:#ddd;fill:none}}#study .c{{stroke-width:1.5;fill:none}}#study .h{{stroke:#bbb;stroke-width:6;fill:none;stroke-linecap:round}}</style>
<rect width="{wide}" height="{high}" fill="#fff"/>
"##
    );
    let mut x = LEFT;
    for (name, colour) in
        panels[0].curves.iter().map(|curve| (curve.name, curve.colour)).chain([("best mixture of all", "#bbb")])
    {
        let thick = if colour == "#bbb" { 6 } else { 3 };
        writeln!(svg, r#"<path d="M{x:.1} 22h22" stroke="{colour}" stroke-width="{thick}"/>"#).unwrap();
        writeln!(svg, r#"<text x="{:.1}" y="26">{name}</text>"#, x + 28.0).unwrap();
        x += 60.0 + 7.0 * name.len() as f64;
    }
    let note = "each dot is one setting (0.125 to 16 ms, or 1 to 8 loads); the large one is the default";
    writeln!(svg, r#"<text x="{LEFT}" y="50">{note}</text>"#).unwrap();
    for (number, one) in panels.iter().enumerate() {
        panel(&mut svg, one, (number % 2) as f64 * WIDE, LEGEND + (number / 2) as f64 * HIGH);
    }
    svg.push_str("</svg>\n");
    svg
}

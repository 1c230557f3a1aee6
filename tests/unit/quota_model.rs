//! Turns of a quota against a checker that knows nothing of them: it has a list of what was sent and when, and counts.
//!
//! A seed draws a world (limits, and which of cancellations, pauses, changes of the limits, held permits, people who do
//! not come when they are called, refusals, prices and charges exist in it), and then what happens in it. Time is a number. Whoever is
//! woken, or whose time it is to look, looks; so a timer tick is zero here.
//!
//! Checked: no window and no bucket ever holds more than it may (R1), also round changes of the limits (R6), and if it
//! was overdrawn by a charge, then by nothing that was granted after that; nothing
//! starts in a pause (R5); first come, first served (R3); who could go by the checker's count has gone (R2); and when
//! nothing new comes, everybody who looks is served, whoever does not (no hostages).
//!
//! `CASES` says how many worlds, `SEED` runs one of them.
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::struct_excessive_bools,
    clippy::panic,
    reason = "a test may panic"
)]

use std::time::Duration;

use super::{
    super::{
        limits::{Shape, Spec},
        price::{PARTS, Price},
        refusals::Refusals,
        sends::{Unit, Units},
    },
    Ask, GRACE, Rest, Told, Turns, nanos,
};

const MS: u64 = 1_000_000;
const ONE: Units = Units { calls: 1, keys: 1 };

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut roll = self.0;
        roll = (roll ^ (roll >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        roll = (roll ^ (roll >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (roll ^ (roll >> 31)) % sides.max(1)
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// A limit as the checker sees it.
#[derive(Clone, Copy, Debug)]
struct Rule {
    size: u64,
    unit: Unit,
    /// A window's length, or the time in which a bucket leaks one unit.
    time: u64,
    window: bool,
    /// Holds for what was granted from here.
    from: usize,
    /// When it came, and until when it holds.
    since: u64,
    ends: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: u64,
    units: Units,
    /// How many changes there had been when it was granted, and when it was sent.
    epoch: usize,
    left: usize,
    /// How many charges there had been when it was granted.
    charges: usize,
    /// It is a charge itself.
    is_charge: bool,
}

/// A permit that was granted and not spent.
#[derive(Clone, Copy, Debug)]
struct Held {
    units: Units,
    price: Price,
    epoch: usize,
    charges: usize,
}

#[derive(Debug)]
struct Person {
    ask: Ask,
    place: Option<u64>,
    looks: u64,
    woken: bool,
    parked: bool,
    /// It was not there all the time.
    was_parked: bool,
}

/// What may happen in a world.
#[derive(Debug)]
struct Faults {
    leave: bool,
    park: bool,
    pause: bool,
    change: bool,
    hold: bool,
    refuse: bool,
    extreme: bool,
    /// Loads cost more than one call, and it turns out that they have cost more than that.
    price: bool,
    charge: bool,
    /// Limits change so often that what is replaced is merged, to the safe side.
    flurry: bool,
}

struct World {
    dice: Dice,
    faults: Faults,
    turns: Turns<usize>,
    now: u64,
    /// In the order in which they came; gone once served.
    people: Vec<Option<Person>>,
    rules: Vec<Rule>,
    epoch: usize,
    sent: Vec<Sent>,
    held: Vec<Held>,
    charges: usize,
    paused: u64,
    served: Vec<usize>,
    log: Vec<(u64, usize, u64)>,
}

fn rule(dice: &mut Dice, extreme: bool) -> (Spec, u64) {
    let unit = dice.of(&[Unit::Calls, Unit::Calls, Unit::Keys]);
    let (mut size, mut time) = (1 + dice.roll(6) as u32, (1 + dice.roll(50)) * dice.of(&[MS, MS, 20 * MS, 7, 333]));
    if extreme {
        size = dice.of(&[size, u32::MAX, 1]);
        time = dice.of(&[time, 1, u64::MAX, u64::MAX / 2, 1 << 40]);
    }
    let shape =
        if dice.one_in(3) { Shape::Bucket(1e9 / time as f64) } else { Shape::Window(Duration::from_nanos(time)) };
    (Spec { size, unit, shape }, time)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut may = |sides| dice.one_in(sides);
        let faults = Faults {
            leave: may(2),
            park: may(3),
            pause: may(2),
            change: may(2),
            hold: may(2),
            refuse: may(4),
            extreme: may(12),
            flurry: may(20),
            price: may(3),
            charge: may(3),
        };
        let refusals = Refusals::new(Duration::from_millis(1), Duration::from_millis(20), Duration::MAX, seed);
        let turns = Turns::new(&[], refusals, Duration::MAX);
        let mut world = Self {
            dice,
            faults,
            turns,
            now: 0,
            people: Vec::new(),
            rules: Vec::new(),
            epoch: 0,
            sent: Vec::new(),
            held: Vec::new(),
            charges: 0,
            paused: 0,
            served: Vec::new(),
            log: Vec::new(),
        };
        world.change(); // from no limit to some
        world
    }

    fn change(&mut self) {
        let specs: Vec<_> = (0..self.dice.roll(4)).map(|_| rule(&mut self.dice, self.faults.extreme)).collect();
        self.epoch += 1;
        for rule in self.rules.iter_mut().filter(|rule| rule.ends == u64::MAX) {
            let span = if rule.window { rule.time } else { rule.time.saturating_mul(rule.size) };
            rule.ends = self.now.saturating_add(span).min(u64::MAX - 1);
        }
        self.rules.extend(specs.iter().map(|(spec, time)| Rule {
            size: spec.size.into(),
            unit: spec.unit,
            time: *time,
            window: matches!(spec.shape, Shape::Window(_)),
            from: self.epoch,
            since: self.now,
            ends: u64::MAX,
        }));
        let specs: Vec<_> = specs.into_iter().map(|(spec, _)| spec).collect();
        let now = self.now;
        self.event(|turns, rest| turns.change(&specs, now, rest));
    }

    fn event<R>(&mut self, event: impl FnOnce(&mut Turns<usize>, &mut Rest<usize>) -> R) -> R {
        let mut rest = Rest { wake: Vec::new(), drop: Vec::new() };
        let result = event(&mut self.turns, &mut rest);
        for woken in rest.wake {
            if let Some(person) = &mut self.people[woken] {
                person.woken = true;
            }
        }
        result
    }

    fn look(&mut self, who: usize) {
        let Some(mut person) = self.people[who].take() else { return };
        person.woken = false;
        let now = self.now;
        let (ask, mut place) = (person.ask, person.place);
        let told = self.event(|turns, rest| turns.ask(&mut place, ask, who, now, rest));
        match told {
            Told::Granted(units) => {
                assert!(now >= self.paused, "R5: granted in a pause");
                assert_eq!(place, None);
                self.log.push((now, who, units.keys));
                self.served.push(who);
                let mut held = Held { units, price: Price::ONE, epoch: self.epoch, charges: self.charges };
                match ask {
                    Ask::Units(asked) => assert_eq!(units, asked),
                    Ask::Load { keys, price } => {
                        assert!(units.calls == price.of(units.keys) && (1..=keys).contains(&units.keys));
                        held.price = price;
                    }
                }
                if matches!(ask, Ask::Load { .. }) && self.faults.hold && self.dice.one_in(2) {
                    self.held.push(held);
                } else {
                    self.spend(held, units);
                }
            }
            Told::Wait { looks, earliest } => {
                assert!(looks > now, "invariant 3");
                assert!(earliest >= self.paused);
                (person.looks, person.place) = (looks, place);
                self.people[who] = Some(person);
            }
            Told::TooMany { .. } => {
                let least = match ask {
                    Ask::Units(units) => units,
                    Ask::Load { price, .. } => Units { calls: price.of(1), keys: 1 },
                };
                assert!(self.active().any(|rule| least.of(rule.unit) > rule.size), "R11");
            }
            Told::Paused(_) => panic!("every pause is waited for here"),
        }
    }

    fn spend(&mut self, held: Held, units: Units) {
        let Held { units: granted, epoch, charges, .. } = held;
        if units != Units::NONE {
            self.sent.push(Sent { at: self.now, units, epoch, left: self.epoch, charges, is_charge: false });
        }
        let now = self.now;
        self.event(|turns, rest| turns.spend(granted, units, now, rest));
    }

    fn charge(&mut self, units: Units) {
        let (at, epoch, charges) = (self.now, self.epoch, self.charges);
        self.sent.push(Sent { at, units, epoch, left: epoch, charges, is_charge: true });
        self.charges += 1;
        self.event(|turns, rest| turns.charge(units, at, rest));
    }

    fn active(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.ends > self.now)
    }

    /// How much counts for a rule before anything else is sent now, with so many of the charges.
    fn used(&self, rule: &Rule, until: usize, charges: usize) -> f64 {
        let sent = self.sent[..until].iter().filter(|sent| !sent.is_charge || sent.charges < charges);
        if rule.window {
            let sent = sent.filter(|sent| sent.at.saturating_add(rule.time) > self.now);
            return sent.map(|sent| sent.units.of(rule.unit)).sum::<u64>() as f64;
        }
        // a bucket holds what was in it when the rule came, at most as much as fits
        let (mut level, mut at, mut since) = (0.0, 0, false);
        let mut to = |level: &mut f64, time: u64| {
            *level = f64::max(0.0, *level - (time - at) as f64 / rule.time as f64);
            at = time;
        };
        for sent in sent {
            if sent.left >= rule.from && !since {
                to(&mut level, rule.since);
                (level, since) = (level.min(rule.size as f64), true);
            }
            to(&mut level, sent.at);
            level += sent.units.of(rule.unit) as f64;
        }
        if !since {
            to(&mut level, rule.since);
            level = level.min(rule.size as f64);
        }
        to(&mut level, self.now);
        level
    }

    /// Everybody looks who is awake and was woken, or has come to the time, until nobody is left.
    fn settle(&mut self) {
        loop {
            let ready = |person: &Option<Person>, now| {
                person.as_ref().is_some_and(|person| !person.parked && (person.woken || person.looks <= now))
            };
            let mut all: Vec<_> = (0..self.people.len()).filter(|who| ready(&self.people[*who], self.now)).collect();
            if all.is_empty() {
                break;
            }
            if self.dice.one_in(2) {
                all.reverse(); // whoever is polled first
            }
            for who in all {
                self.look(who);
            }
        }
        self.check_order();
        self.served.clear();
    }

    fn check_order(&self) {
        let mut waiting = self.people.iter().enumerate().filter_map(|(who, person)| Some((who, person.as_ref()?)));
        let Some((who, first)) = waiting.find(|(_, person)| !person.was_parked) else { return };
        for served in &self.served {
            // in a flurry somebody was told that he asks for too much, and the next moment he does not
            assert!(
                self.faults.flurry || *served < who,
                "R3: {served} was served before {who}, {first:?}; {:?}",
                self.turns
            );
        }
        if self.faults.park || self.faults.refuse || self.faults.flurry || self.now < self.paused {
            return; // what is kept for others, or what was learned, the checker does not know
        }
        let units = match first.ask {
            Ask::Units(units) => units,
            Ask::Load { keys, price } => {
                let least = |unit| self.active().filter(|rule| rule.unit == unit).map(|rule| rule.size).min();
                let (calls, most) = (least(Unit::Calls).unwrap_or(u64::MAX), least(Unit::Keys).unwrap_or(u64::MAX));
                let keys = (1..=keys.min(most)).rev().find(|keys| price.of(*keys) <= calls).unwrap_or(1);
                Units { calls: price.of(keys), keys }
            }
        };
        let held = self.held.iter().fold(Units::NONE, |sum, held| sum.and(held.units));
        // a bucket's instants are rounded up to whole nanoseconds
        let holds = |rule: &&Rule| rule.ends.saturating_add(if rule.window { 0 } else { 2 }) > self.now;
        let room = self.rules.iter().filter(holds).all(|rule| {
            let asked = units.and(held).of(rule.unit) as f64;
            let rounding = if rule.window { 0.0 } else { 1e-6 + 2.0 / rule.time as f64 };
            units.of(rule.unit) == 0
                || self.used(rule, self.sent.len(), self.charges) + asked <= rule.size as f64 - rounding
        });
        assert!(
            !room,
            "R2: {who} waits at {} for {units:?}, and there is room; {first:?} {:?} {:?}",
            self.now, self.rules, self.turns
        );
    }

    /// The next instant at which somebody looks.
    fn next(&self) -> Option<u64> {
        self.people.iter().flatten().filter(|person| !person.parked).map(|person| person.looks).min()
    }

    fn pass(&mut self, until: u64) {
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.now = next;
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    fn somebody(&mut self) -> Option<usize> {
        let all: Vec<_> = (0..self.people.len()).filter(|who| self.people[*who].is_some()).collect();
        (!all.is_empty()).then(|| self.dice.of(&all))
    }

    fn price(&mut self) -> Price {
        if !self.faults.price {
            return Price::ONE;
        }
        Price::new(self.dice.roll(4) * PARTS, self.dice.of(&[0, 20_000, PARTS / 2, PARTS, 3 * PARTS]))
    }

    fn step(&mut self) {
        let now = self.now;
        match self.dice.roll(15) {
            0..=4 => {
                let ask = match self.dice.roll(6) {
                    0..=2 => Ask::Units(ONE),
                    3 => {
                        let units = 1 + self.dice.roll(7);
                        Ask::Units(Units { calls: units, keys: if self.faults.price { 0 } else { units } })
                    }
                    _ => Ask::Load { keys: 1 + self.dice.roll(9), price: self.price() },
                };
                for _ in 0..=self.dice.roll(3) {
                    self.people.push(Some(Person {
                        ask,
                        place: None,
                        looks: now,
                        woken: true,
                        parked: false,
                        was_parked: false,
                    }));
                    self.look(self.people.len() - 1);
                }
            }
            5..=8 => {
                let time = self.dice.of(&[1, MS, 5 * MS, 40 * MS, 500 * MS, 20_000 * MS]);
                let until = now.saturating_add(self.dice.roll(time) + 1);
                self.pass(until);
            }
            9 if self.faults.leave => {
                if let Some(person) = self.somebody().and_then(|who| self.people[who].take()) {
                    let mut place = person.place;
                    self.event(|turns, rest| turns.leave(&mut place, now, rest));
                }
            }
            10 if self.faults.park => {
                if let Some(person) = self.somebody().and_then(|who| self.people[who].as_mut()) {
                    (person.parked, person.was_parked) = (!person.parked, true);
                    person.woken = true;
                }
            }
            11 if self.faults.pause => {
                let pause = self.dice.of(&[0, 1, 3 * MS, 70 * MS]);
                self.paused = self.paused.max(now + pause);
                let until = now + pause;
                self.event(|turns, rest| match pause {
                    1 => turns.pace(until, now, rest),
                    _ => turns.pause(until, now, rest),
                });
            }
            12 if self.faults.flurry => (0..self.dice.roll(12)).for_each(|_| self.change()),
            12 if self.faults.change && self.dice.one_in(2) => self.change(),
            13 if self.faults.refuse => {
                if self.dice.one_in(2) {
                    let until = self.event(|turns, rest| turns.refused(now, rest));
                    assert!(until >= now);
                } else {
                    self.event(|turns, rest| turns.succeeded(now, rest));
                }
            }
            14 if self.faults.charge => {
                let most = self.dice.of(&[1, 4, 30]);
                let units = Units { calls: self.dice.roll(most + 1), keys: 0 };
                self.charge(units);
            }
            _ if !self.held.is_empty() => {
                let held = self.dice.roll(self.held.len() as u64) as usize;
                let held = self.held.swap_remove(held);
                let keys = self.dice.roll(held.units.keys + 1);
                let sent = Units { calls: held.price.of(keys), keys };
                self.spend(held, if keys == 0 { Units::NONE } else { sent });
            }
            _ => {}
        }
        self.settle();
    }

    /// R1 and R6, over everything that was sent.
    fn check(&mut self) -> usize {
        let mut checked = 0;
        for rule in self.rules.clone() {
            let mut charges = 0; // those that whoever was granted last knew of
            for (number, sent) in self.sent.clone().into_iter().enumerate() {
                if sent.is_charge {
                    continue; // nobody was asked
                }
                charges = charges.max(sent.charges);
                if sent.epoch < rule.from || sent.at >= rule.ends || sent.units.of(rule.unit) == 0 {
                    continue; // granted before the rule came, after it ended, or nothing to it
                }
                self.now = sent.at;
                let used = self.used(&rule, number, charges) + sent.units.of(rule.unit) as f64;
                assert!(used <= rule.size as f64 + 1e-6, "R1: {used} at {} under {rule:?}", sent.at);
                checked += 1;
            }
        }
        checked
    }

    /// Nothing new comes, and everybody who looks is served.
    fn end(&mut self) {
        self.faults.hold = false;
        for held in std::mem::take(&mut self.held) {
            self.spend(held, Units::NONE);
        }
        self.settle();
        if self.faults.extreme {
            return; // some of these windows never have room again
        }
        let most = 2_000 + 200 * self.people.len();
        for _ in 0..most {
            let Some(next) = self.next() else { return };
            self.now = next.max(self.now);
            self.settle();
        }
        let waiting: Vec<_> = self.people.iter().enumerate().filter(|(_, person)| person.is_some()).collect();
        panic!("nobody serves {} at {}: {:?} {:?}", waiting.len(), self.now, self.turns.limits, self.rules);
    }
}

fn run(seed: u64) -> (usize, Vec<(u64, usize, u64)>) {
    let mut world = World::new(seed);
    for _ in 0..20 + world.dice.roll(100) {
        world.step();
    }
    world.end();
    let checked = world.check();
    (checked, world.log)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

#[test]
fn p15_r01_r02_r03_r04_r05_r06_random_worlds_beside_a_checker_that_counts() {
    if let Some(seed) = number("SEED") {
        run(seed);
        return;
    }
    let (cases, mut ran, mut checked, mut served) = (number("CASES").unwrap_or(2_000), 0_u64, 0, 0);
    for seed in 0..cases {
        let result = std::panic::catch_unwind(|| run(seed));
        let Ok((checks, log)) = result else { panic!("SEED={seed} fails") };
        (ran, checked, served) = (ran + 1, checked + checks, served + log.len());
        if seed % 50 == 0 {
            assert_eq!(run(seed).1, log, "R10: the same seed, the same story");
        }
    }
    println!("quota: {ran} cases, {served} served, {checked} checks of what was sent");
    assert!(ran > 0 && checked as u64 > ran, "nothing was checked");
}

fn turns(specs: &[Spec]) -> Turns<usize> {
    Turns::new(
        specs,
        Refusals::new(Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(300), 1),
        Duration::from_secs(300),
    )
}

fn window(size: u32, span: u64) -> Spec {
    Spec { size, unit: Unit::Calls, shape: Shape::Window(Duration::from_nanos(span)) }
}

fn rest() -> Rest<usize> {
    Rest { wake: Vec::new(), drop: Vec::new() }
}

/// Who is called and does not come costs the others 20 ms, once, and has his place again when he comes.
#[test]
fn p08_who_is_called_and_does_not_come_is_overtaken_and_has_his_place_again() {
    let (mut turns, mut rest) = (turns(&[window(1, 100 * MS)]), rest());
    let mut places = [None; 4];
    let mut ask =
        |turns: &mut Turns<usize>, who: usize, at| turns.ask(&mut places[who], Ask::Units(ONE), who, at, &mut rest);
    let grace = nanos(GRACE);
    let Told::Granted(units) = ask(&mut turns, 0, 0) else { panic!() };
    turns.spend(units, units, 0, &mut self::rest());
    assert!(matches!(ask(&mut turns, 1, 0), Told::Wait { looks, .. } if looks == 100 * MS));
    assert!(matches!(ask(&mut turns, 2, 0), Told::Wait { looks, .. } if looks == 200 * MS));
    // 1 does not come at 100; 2 comes when it would have been his turn after 1
    assert!(matches!(ask(&mut turns, 2, 200 * MS), Told::Wait { looks, .. } if looks == 200 * MS + grace));
    let Told::Granted(units) = ask(&mut turns, 2, 200 * MS + grace) else { panic!() };
    turns.spend(units, units, 200 * MS + grace, &mut self::rest());
    assert!(matches!(ask(&mut turns, 3, 201 * MS + grace), Told::Wait { looks, .. } if looks == 300 * MS + grace));
    // 1 comes back: he is the first again
    assert!(matches!(ask(&mut turns, 1, 202 * MS + grace), Told::Wait { looks, .. } if looks == 300 * MS + grace));
    assert!(matches!(ask(&mut turns, 3, 300 * MS + grace), Told::Wait { .. }));
    assert!(matches!(ask(&mut turns, 1, 300 * MS + grace), Told::Granted(_)));
}

/// A charge overdraws, whoever was called and has not come waits for it, and a permit that is out does not.
#[test]
fn p15_r01_a_charge_overdraws_and_is_waited_for_by_all_who_were_not_granted_yet() {
    let mut turns = turns(&[window(10, 100 * MS)]);
    let (mut places, mut rest) = ([None; 3], rest());
    let load = Ask::Load { keys: 50, price: Price::new(4 * PARTS, 0) };
    let mut ask = |turns: &mut Turns<usize>, who: usize, at| turns.ask(&mut places[who], load, who, at, &mut rest);
    let Told::Granted(out) = ask(&mut turns, 0, 0) else { panic!() };
    assert_eq!(out, Units { calls: 4, keys: 50 });
    let Told::Granted(sent) = ask(&mut turns, 1, 0) else { panic!() };
    turns.spend(sent, sent, 0, &mut self::rest());
    assert!(matches!(ask(&mut turns, 2, 0), Told::Wait { .. }), "2 are left");
    turns.charge(Units { calls: 21, keys: 0 }, 10 * MS, &mut self::rest());
    turns.spend(out, out, 20 * MS, &mut self::rest()); // 29 of 10 by now
    let Told::Wait { looks, .. } = ask(&mut turns, 2, 20 * MS) else { panic!() };
    assert_eq!(looks, 110 * MS, "when the charge leaves, 4 are left");
    assert!(matches!(ask(&mut turns, 2, 110 * MS), Told::Granted(_)));
}

/// Loads with a price are made smaller until they fit, and what cannot fit is an error at once.
#[test]
fn r11_a_price_makes_a_load_smaller_or_is_an_error() {
    let (mut turns, mut rest) = (turns(&[window(10, 100 * MS)]), rest());
    let mut ask = |turns: &mut Turns<usize>, price| {
        let (mut place, load) = (None, Ask::Load { keys: 50, price });
        let told = turns.ask(&mut place, load, 0, 0, &mut rest);
        turns.leave(&mut place, 0, &mut rest);
        if let Told::Granted(units) = told {
            turns.spend(units, Units::NONE, 0, &mut rest);
        }
        told
    };
    let each = |fixed, each| Price::new(fixed * PARTS, each * PARTS);
    assert_eq!(ask(&mut turns, each(4, 2)), Told::Granted(Units { calls: 10, keys: 3 }));
    assert_eq!(ask(&mut turns, each(10, 0)), Told::Granted(Units { calls: 10, keys: 50 }));
    assert_eq!(ask(&mut turns, each(9, 2)), Told::TooMany { most: 10 });
}

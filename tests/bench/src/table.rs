//! The figures on the terminal.

use crate::figure::{Figure, Series};
use crate::machine::Machine;
use crate::results::Taken;
use crate::stats::Summary;

/// A middle half wider than this part of the median is said: the values are not to be trusted.
const WIDE: f64 = 0.25;

/// Prints a line.
#[allow(clippy::print_stdout)] // the figures are what the bench is run for
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Prints the figures of a subject, and how far each median is from that of the run before.
pub(crate) fn print(subject: &str, taken: &Taken, last: Option<&Taken>) {
    say(&format!("\n== {subject}, {}\n{}", taken.at, machine(&taken.machine)));
    if let Some(why) = taken.machine.too_busy() {
        say(&format!("NOT TO BE TRUSTED: {why}"));
    }
    for figure in &taken.figures {
        let last = last.and_then(|last| last.figures.iter().find(|known| known.name == figure.name));
        print_figure(figure, last);
    }
}

/// The machine in one line.
pub(crate) fn machine(machine: &Machine) -> String {
    format!(
        "{} × {}, {:.0} GiB, Linux {}; before: load {:.2}, others used {:.2} processors; withheld meanwhile: {:.1} %",
        machine.processors,
        machine.processor,
        machine.memory,
        machine.kernel,
        machine.load,
        machine.busy,
        100.0 * machine.stolen
    )
}

fn print_figure(figure: &Figure, last: Option<&Figure>) {
    let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
    say(&format!("\n{}{unit}", figure.name));
    let columns: Vec<_> = figure.references.iter().map(|name| format!("× {name}")).collect();
    let heads = columns.iter().map(|head| format!(" {head:>8}")).collect::<String>();
    say(&format!("  {:<34} {:>8}  {:^19}{heads} {:>9}", "", "median", "middle half", "last time"));
    for series in &figure.series {
        let before = last.and_then(|last| last.series(&series.name));
        let ratios = figure.references.iter().zip(&columns).map(|(name, head)| {
            let width = head.chars().count().max(8);
            format!(" {:>width$}", times(series.ratios.get(name)))
        });
        say(&format!(
            "  {:<34} {:>8.2}  {:>8.2} … {:<8.2}{} {:>9}{}",
            series.name,
            series.middle.median,
            series.middle.low,
            series.middle.high,
            ratios.collect::<String>(),
            before.map_or_else(String::new, |before| change(series, before)),
            if wide(series) { "  (spread)" } else { "" },
        ));
    }
}

/// Whether the values lie too far apart.
pub(crate) fn wide(series: &Series) -> bool {
    series.middle.spread() > WIDE
}

/// `1.23`, or nothing.
fn times(ratio: Option<&Summary>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median))
}

/// How far the median is from an earlier one: `+3 %`.
pub(crate) fn change(series: &Series, before: &Series) -> String {
    let (now, before) = (series.middle.median, before.middle.median);
    match before {
        _ if now == before => "+0 %".to_owned(),
        0.0 => "from 0".to_owned(),
        _ => format!("{:+.0} %", 100.0 * (now / before - 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_change_is_a_part_of_what_was_before() {
        let series = |median: f64| Series {
            name: "wisp".into(),
            values: vec![median],
            middle: Summary { median, low: median, high: median },
            ratios: BTreeMap::new(),
        };
        let change = |now, before| change(&series(now), &series(before));
        assert_eq!([change(3.0, 4.0), change(0.0, 0.0), change(2.0, 0.0)], ["-25 %", "+0 %", "from 0"]);
    }
}

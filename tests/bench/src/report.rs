//! `target/bench/index.html`: every value of every figure in one page that needs nothing else.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::figure::{Figure, Series};
use crate::results::{self, Results, Taken};
use crate::table;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: light-dark(#222, #ddd); --soft: light-dark(#888, #999); --line: light-dark(#ddd, #444);
  --wisp: light-dark(#5b3fd0, #a793ff); --other: light-dark(#777, #aaa); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line) } h3 { margin: 2rem 0 0 }
p { margin: .2rem 0; color: var(--soft) } p.busy { color: #c33; font-weight: bold } svg { width: 100%; height: auto }
text { fill: var(--ink); font-size: 12px } text.soft { fill: var(--soft) } line { stroke: var(--line) }
.series { color: var(--other) } .wisp { color: var(--wisp) }
.series circle { fill: currentColor; opacity: .3 } .series rect { fill: currentColor; opacity: .25 }
.series line { stroke: currentColor; stroke-width: 3 }
";

/// The plot's measures, in its own units.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 220.0;
const RIGHT: f64 = 350.0;
const ROW: f64 = 30.0;
/// How many parts the axis has.
const TICKS: u32 = 5;

/// Where the page is.
pub(crate) fn path() -> PathBuf {
    results::folder().join("index.html")
}

/// Writes the page.
///
/// # Errors
/// Those of writing.
pub(crate) fn write(results: &Results) -> Result<()> {
    let path = path();
    fs::write(&path, page(results)?).with_context(|| format!("writing {}", path.display()))
}

fn page(results: &Results) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Wisp: figures</title><style>{STYLE}</style>\n\
         <h1>Wisp: figures</h1>\n<p>A dot is one value, the box the middle half, the bar the median. <b>null</b> is a shim that answers \
         the protocol and runs nothing: the least that the layers above cost; <b>native</b> a server without a guest.</p>\n"
    );
    for (subject, taken, before) in results.all() {
        section(&mut page, subject, taken, before)?;
    }
    page.push_str("</html>\n");
    Ok(page)
}

fn section(page: &mut String, subject: &str, taken: &Taken, before: Option<&Taken>) -> Result<()> {
    writeln!(
        page,
        "<h2>{}</h2>\n<p>{}; {}</p>",
        escaped(subject),
        taken.at,
        escaped(&table::machine(&taken.machine))
    )?;
    if let Some(why) = taken.machine.too_busy() {
        writeln!(page, "<p class=\"busy\">Not to be trusted: {}</p>", escaped(&why))?;
    }
    for figure in &taken.figures {
        let before = before.and_then(|before| before.figures.iter().find(|known| known.name == figure.name));
        let unit =
            if figure.unit.is_empty() { String::new() } else { format!(", {}", escaped(&figure.unit)) };
        writeln!(page, "<h3>{}{unit}</h3>\n<p>{}</p>", escaped(&figure.name), escaped(&figure.note))?;
        plot(page, figure, before)?;
    }
    Ok(())
}

/// One row for each series, on an axis that begins at zero so that lengths are proportions.
fn plot(page: &mut String, figure: &Figure, before: Option<&Figure>) -> Result<()> {
    let largest = figure.series.iter().flat_map(|series| &series.values).copied().fold(0.0, f64::max);
    let step = step(largest);
    let end = step * (largest / step).ceil().max(1.0);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value.max(0.0) / end;
    let bottom = ROW * figure.series.len() as f64;
    writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">", bottom + 22.0)?;
    for tick in (0..).map(|tick| f64::from(tick) * step).take_while(|&tick| tick <= end * 1.001) {
        let at = x(tick);
        write!(page, "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{bottom}\"/>")?;
        writeln!(
            page,
            "<text class=\"soft\" x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 15.0,
            number(tick)
        )?;
    }
    for (index, series) in figure.series.iter().enumerate() {
        row(page, series, ROW * index as f64, &x)?;
        let mut said = format!("{:.2}", series.middle.median);
        for (to, ratio) in &series.ratios {
            write!(said, " · {:.2} × {}", ratio.median, escaped(to))?;
        }
        if let Some(before) = before.and_then(|before| before.series(&series.name)) {
            write!(said, " · {} since", table::change(series, before))?;
        }
        if table::wide(series) {
            said.push_str(" · spread");
        }
        let y = ROW * (index as f64 + 0.5) + 4.0;
        writeln!(page, "<text x=\"{:.0}\" y=\"{y:.0}\">{said}</text>", WIDTH - RIGHT + 10.0)?;
    }
    page.push_str("</svg>\n");
    Ok(())
}

fn row(page: &mut String, series: &Series, top: f64, x: &dyn Fn(f64) -> f64) -> Result<()> {
    let class = if series.name.starts_with("wisp") { "series wisp" } else { "series" };
    let (middle, centre) = (series.middle, top + ROW / 2.0);
    write!(
        page,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
        LEFT - 10.0,
        centre + 4.0,
        escaped(&series.name)
    )?;
    write!(page, "<g class=\"{class}\">")?;
    for (index, value) in series.values.iter().enumerate() {
        // Dots of equal values lie beside each other.
        let aside = ((index % 5) as f64 - 2.0) * 3.0;
        write!(page, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"/>", x(*value), centre + aside)?;
    }
    let (low, high, median) = (x(middle.low), x(middle.high), x(middle.median));
    let (y, height) = (top + 6.0, ROW - 12.0);
    write!(
        page,
        "<rect x=\"{low:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{height}\"/>",
        (high - low).max(1.0)
    )?;
    writeln!(page, "<line x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{y}\" y2=\"{:.0}\"/></g>", y + height)?;
    Ok(())
}

/// 1, 2 or 5 times a power of ten, so that about [`TICKS`] of them reach the largest value.
fn step(largest: f64) -> f64 {
    let rough = largest.max(f64::MIN_POSITIVE.sqrt()) / f64::from(TICKS);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].map(|part| part * power).into_iter().find(|&step| step >= rough).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Pairs;

    #[test]
    fn an_axis_has_round_steps_that_reach_the_largest_value() {
        assert_eq!([step(4.6), step(73.0), step(190.0), step(250.0)], [1.0, 20.0, 50.0, 50.0]);
        assert_eq!([number(0.0), number(2.5), number(40.0)], ["0", "2.5", "40"]);
    }

    #[test]
    fn a_plot_has_a_dot_for_each_value_and_no_markup_of_others() {
        let series = vec![("null".to_owned(), vec![1.0, 2.0]), ("<wisp>".to_owned(), vec![3.0])];
        let mut page = String::new();
        plot(&mut page, &Figure::new("f", "ms", "", Pairs::None, series), None).unwrap();
        assert_eq!(page.matches("<circle").count(), 3);
        assert!(page.contains("&lt;wisp&gt;") && !page.contains("<wisp>"), "{page}");
    }
}

//! Whether figures keep what is promised of them, in `promises.toml`.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::figure::Figure;
use crate::results::Taken;
use crate::table;

const PROMISES: &str = include_str!("../promises.toml");

/// All that is promised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promises {
    /// By what part of it a bound may be missed.
    room: f64,
    #[serde(rename = "promise")]
    promises: Vec<Promise>,
}

/// A bound of one median.
#[derive(Debug, Deserialize)]
struct Promise {
    subject: String,
    figure: String,
    series: String,
    /// The series that it is a ratio to; its own value where there is none.
    to: Option<String>,
    #[serde(flatten)]
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bound {
    Most(f64),
    Least(f64),
}

impl Promises {
    /// Those of the bench.
    ///
    /// # Errors
    /// Where the file is not what is expected.
    pub(crate) fn read() -> Result<Self> {
        toml::from_str(PROMISES).context("reading promises.toml")
    }

    /// Prints what is promised of these subjects beside what was measured, and requires that nothing of it is broken.
    ///
    /// # Errors
    /// How much is broken; what was promised and not measured; why it cannot be said where the machine was too busy.
    pub(crate) fn require(&self, measured: &[(&str, Taken)]) -> Result<()> {
        let mut broken = 0;
        for (subject, taken) in measured {
            if let Some(why) = taken.machine.too_busy() {
                bail!("whether {subject} is as promised cannot be said: {why}");
            }
            table::say(&format!("\n-- {subject}: what is promised"));
            for promise in self.promises.iter().filter(|promise| promise.subject == *subject) {
                broken += usize::from(!self.judge(promise, &taken.figures)?);
            }
        }
        ensure!(broken == 0, "{broken} of the promises above are broken");
        Ok(())
    }

    /// Whether a promise is kept; prints it.
    fn judge(&self, promise: &Promise, figures: &[Figure]) -> Result<bool> {
        let value = promise.value(figures)?;
        let is_kept = promise.bound.is_kept(value, self.room);
        let said = if is_kept { "kept" } else { "BROKEN" };
        table::say(&format!("  {said:<7} {value:>8.2}, {} · {}", promise.bound.shown(), promise.shown()));
        Ok(is_kept)
    }
}

impl Promise {
    fn value(&self, figures: &[Figure]) -> Result<f64> {
        let series = figures
            .iter()
            .find(|figure| figure.name == self.figure)
            .and_then(|figure| figure.series(&self.series))
            .with_context(|| format!("{} was not measured", self.shown()))?;
        let middle = match &self.to {
            None => series.middle,
            Some(to) => {
                *series.ratios.get(to).with_context(|| format!("{} was not measured", self.shown()))?
            }
        };
        Ok(middle.median)
    }

    fn shown(&self) -> String {
        let to = self.to.as_ref().map_or_else(String::new, |to| format!(" × {to}"));
        format!("{}: {}{to}", self.figure, self.series)
    }
}

impl Bound {
    fn is_kept(self, value: f64, room: f64) -> bool {
        match self {
            Self::Most(bound) => value <= bound * (1.0 + room),
            Self::Least(bound) => value >= bound * (1.0 - room),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Most(bound) => format!("at most {bound}"),
            Self::Least(bound) => format!("at least {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Pairs;

    fn promise(to: Option<&str>, bound: Bound) -> Promise {
        Promise {
            subject: "start".into(),
            figure: "f".into(),
            series: "wisp".into(),
            to: to.map(str::to_owned),
            bound,
        }
    }

    #[test]
    fn the_promises_of_the_bench_are_understood() {
        let promises = Promises::read().unwrap();
        assert!(promises.room < 0.2 && !promises.promises.is_empty());
    }

    #[test]
    fn a_bound_has_room_for_noise_and_no_more() {
        assert!(Bound::Most(2.0).is_kept(2.19, 0.1) && !Bound::Most(2.0).is_kept(2.21, 0.1));
        assert!(Bound::Least(2.0).is_kept(1.81, 0.1) && !Bound::Least(2.0).is_kept(1.79, 0.1));
        assert!(Bound::Most(0.0).is_kept(0.0, 0.1) && !Bound::Most(0.0).is_kept(1.0, 0.1));
    }

    #[test]
    fn a_promise_is_of_a_value_or_of_a_ratio() {
        let series = vec![("null".to_owned(), vec![4.0]), ("wisp".to_owned(), vec![6.0])];
        let figures = [Figure::new("f", "ms", "", Pairs::Rounds, series)];
        assert_eq!(promise(None, Bound::Most(1.0)).value(&figures).unwrap(), 6.0);
        assert_eq!(promise(Some("null"), Bound::Most(1.0)).value(&figures).unwrap(), 1.5);
    }

    #[test]
    fn what_was_not_measured_is_not_kept() {
        let said = promise(Some("runc"), Bound::Most(1.0)).value(&[]).unwrap_err().to_string();
        assert_eq!(said, "f: wisp × runc was not measured");
    }
}

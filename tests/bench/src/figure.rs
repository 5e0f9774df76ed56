//! One figure: the same thing measured of several runtimes.

use serde::{Deserialize, Serialize};

use crate::stats::{Summary, ratios};

/// The name of what the others are compared with: the shim that runs nothing, and runc.
pub(crate) const FLOOR: &str = "null";
/// What a user would pick instead.
pub(crate) const RUNC: &str = "runc";

/// Something that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What it is.
    pub name: String,
    /// What its values are in.
    pub unit: String,
    /// How it was taken.
    pub note: String,
    /// The values, by what was measured.
    pub series: Vec<Series>,
}

/// The values of one runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Series {
    /// Whose they are.
    pub name: String,
    /// One a round, or one a pod.
    pub values: Vec<f64>,
    /// Their middle.
    pub middle: Summary,
    /// How many times those of the null shim they are.
    pub to_floor: Option<Summary>,
    /// How many times those of runc they are.
    pub to_runc: Option<Summary>,
}

/// Whether values in the same place were taken in the same round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// They are compared one by one.
    Rounds,
    /// Only their medians are compared.
    None,
}

impl Figure {
    /// A figure of these values; a series without values is left out.
    pub(crate) fn new(
        name: &str,
        unit: &str,
        note: &str,
        pairs: Pairs,
        series: Vec<(String, Vec<f64>)>,
    ) -> Self {
        let reference =
            |name| series.iter().find(|(known, _)| known == name).map(|(_, values)| values.as_slice());
        let (floor, runc) = (reference(FLOOR), reference(RUNC));
        let series = series
            .iter()
            .filter_map(|(name, values)| {
                Some(Series {
                    name: name.clone(),
                    values: values.clone(),
                    middle: Summary::of(values)?,
                    to_floor: floor.and_then(|floor| compared(values, floor, pairs)),
                    to_runc: runc.and_then(|runc| compared(values, runc, pairs)),
                })
            })
            .collect();
        Self { name: name.into(), unit: unit.into(), note: note.into(), series }
    }

    /// The series of this name.
    pub(crate) fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }
}

fn compared(values: &[f64], to: &[f64], pairs: Pairs) -> Option<Summary> {
    match pairs {
        Pairs::Rounds => Summary::of(&ratios(values, to)),
        Pairs::None => {
            let to = Summary::of(to)?.median;
            Summary::of(&values.iter().map(|value| value / to).collect::<Vec<_>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_round_does_not_change_a_ratio_of_rounds() {
        let series =
            vec![("null".to_owned(), vec![1.0, 10.0, 100.0]), ("wisp".to_owned(), vec![2.0, 20.0, 200.0])];
        let figure = Figure::new("f", "ms", "", Pairs::Rounds, series);
        let wisp = figure.series("wisp").unwrap();
        assert_eq!(wisp.to_floor, Some(Summary { median: 2.0, low: 2.0, high: 2.0 }));
        assert_eq!(wisp.to_runc, None, "there is no runc in it");
    }

    #[test]
    fn without_rounds_medians_are_compared() {
        let series = vec![("null".to_owned(), vec![1.0, 2.0, 3.0]), ("wisp".to_owned(), vec![8.0])];
        let figure = Figure::new("f", "MiB", "", Pairs::None, series);
        assert_eq!(figure.series("wisp").unwrap().to_floor.unwrap().median, 4.0);
    }

    #[test]
    fn what_has_no_values_is_left_out() {
        let figure = Figure::new("f", "ms", "", Pairs::None, vec![("wisp".to_owned(), Vec::new())]);
        assert!(figure.series.is_empty());
    }
}

//! One figure: the same thing measured of several runtimes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::{Summary, ratios};

/// The shim that runs nothing: the least that the layers above cost.
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
    /// What the others are compared with: names of series.
    pub references: Vec<String>,
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
    /// How many times those of each reference they are; nothing of the reference itself.
    pub ratios: BTreeMap<String, Summary>,
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
    /// A figure of these values, compared with those of the null shim and of runc; a series without values is left out.
    pub(crate) fn new(
        name: &str,
        unit: &str,
        note: &str,
        pairs: Pairs,
        series: Vec<(String, Vec<f64>)>,
    ) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            note: note.into(),
            references: Vec::new(),
            series: plain(series),
        }
        .against(&[FLOOR, RUNC], pairs)
    }

    /// The same, compared with other series of it; a name that none of them has is left out.
    pub(crate) fn against(mut self, references: &[&str], pairs: Pairs) -> Self {
        let known: Vec<_> =
            self.series.iter().map(|series| (series.name.clone(), series.values.clone())).collect();
        let known: Vec<_> =
            references.iter().filter_map(|&name| known.iter().find(|(known, _)| known == name)).collect();
        for series in &mut self.series {
            let others = known.iter().filter(|(name, _)| *name != series.name);
            series.ratios = others
                .filter_map(|(name, to)| Some((name.clone(), compared(&series.values, to, pairs)?)))
                .collect();
        }
        self.references = known.into_iter().map(|(name, _)| name.clone()).collect();
        self
    }

    /// The series of this name.
    pub(crate) fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }
}

fn plain(series: Vec<(String, Vec<f64>)>) -> Vec<Series> {
    let with_values = |(name, values): (String, Vec<f64>)| {
        Some(Series { middle: Summary::of(&values)?, name, values, ratios: BTreeMap::new() })
    };
    series.into_iter().filter_map(with_values).collect()
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
        assert_eq!(figure.references, ["null"], "there is no runc in it");
        assert_eq!(wisp.ratios["null"], Summary { median: 2.0, low: 2.0, high: 2.0 });
        assert!(figure.series("null").unwrap().ratios.is_empty());
    }

    #[test]
    fn without_rounds_medians_are_compared() {
        let series = vec![("null".to_owned(), vec![1.0, 2.0, 3.0]), ("wisp".to_owned(), vec![8.0])];
        let figure = Figure::new("f", "MiB", "", Pairs::None, series);
        assert_eq!(figure.series("wisp").unwrap().ratios["null"].median, 4.0);
    }

    #[test]
    fn a_figure_may_have_references_of_its_own() {
        let series = vec![("native".to_owned(), vec![2.0]), ("wisp".to_owned(), vec![6.0])];
        let figure =
            Figure::new("f", "µs", "", Pairs::Rounds, series).against(&["native", "other"], Pairs::Rounds);
        assert_eq!(figure.references, ["native"]);
        assert_eq!(figure.series("wisp").unwrap().ratios["native"].median, 3.0);
    }

    #[test]
    fn what_has_no_values_is_left_out() {
        let figure = Figure::new("f", "ms", "", Pairs::None, vec![("wisp".to_owned(), Vec::new())]);
        assert!(figure.series.is_empty());
    }
}

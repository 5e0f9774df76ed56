//! Medians, and how far values lie from them. Times on a shared machine have outliers upwards, so nothing here is a mean.

use serde::{Deserialize, Serialize};

/// The middle of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Half of the values are below.
    pub median: f64,
    /// A quarter of the values is below.
    pub low: f64,
    /// A quarter of the values is above.
    pub high: f64,
}

impl Summary {
    /// The middle of these values; `None` where there is none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part| quantile(&sorted, part);
        Some(Self { median: at(0.5)?, low: at(0.25)?, high: at(0.75)? })
    }

    /// The middle half's width, as a part of the median.
    pub(crate) fn spread(&self) -> f64 {
        (self.high - self.low) / self.median.abs().max(f64::MIN_POSITIVE)
    }
}

/// The value that so large a part is below; between the two values that are next to it, in proportion.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// How many times each value is the one of the same round: what slows a whole round down does not change it.
pub(crate) fn ratios(values: &[f64], to: &[f64]) -> Vec<f64> {
    values.iter().zip(to).map(|(value, to)| value / to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_values_is_found_in_any_order() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0, 5.0]).unwrap();
        assert_eq!(summary, Summary { median: 3.0, low: 2.0, high: 4.0 });
        assert_eq!(Summary::of(&[1.0, 2.0]).unwrap(), Summary { median: 1.5, low: 1.25, high: 1.75 });
        assert_eq!(Summary::of(&[7.0]).unwrap(), Summary { median: 7.0, low: 7.0, high: 7.0 });
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn one_outlier_moves_neither_the_median_nor_the_spread() {
        let calm = Summary::of(&[10.0, 10.0, 10.0, 10.0, 10.0]).unwrap();
        let shaken = Summary::of(&[10.0, 10.0, 10.0, 10.0, 900.0]).unwrap();
        assert_eq!(calm, shaken);
        assert_eq!(shaken.spread(), 0.0);
        assert_eq!(Summary { median: 10.0, low: 9.0, high: 12.0 }.spread(), 0.3);
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        assert_eq!(ratios(&[2.0, 40.0], &[1.0, 20.0]), [2.0, 2.0]);
    }
}

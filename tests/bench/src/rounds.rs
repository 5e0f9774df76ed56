//! Rounds: each measures every kind once, so that what changes on the machine meanwhile changes all of them.

use anyhow::{Context, Result};

use crate::figure::{Figure, Pairs};

/// How many rounds are measured, unless `WISP_BENCH_ROUNDS` says otherwise.
const ROUNDS: usize = 25;

/// How many rounds are measured.
pub(crate) fn count() -> usize {
    std::env::var("WISP_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

/// What was measured: by quantity, by kind, by round.
pub(crate) type Measured<const N: usize> = [Vec<Vec<f64>>; N];

/// Measures `N` quantities of each of so many kinds in each round. Each round begins with another kind, and the first round is
/// not counted: it fills caches.
///
/// # Errors
/// Those of `measure`.
pub(crate) fn interleaved<const N: usize>(
    rounds: usize,
    kinds: usize,
    mut measure: impl FnMut(usize) -> Result<[f64; N]>,
) -> Result<Measured<N>> {
    let mut all = [const { Vec::new() }; N];
    all.iter_mut().for_each(|by_kind: &mut Vec<Vec<f64>>| by_kind.resize(kinds, Vec::new()));
    for round in 0..=rounds {
        for kind in (0..kinds).map(|kind| (kind + round) % kinds) {
            let values = measure(kind).with_context(|| format!("round {round}"))?;
            if round > 0 {
                all.iter_mut().zip(values).for_each(|(by_kind, value)| by_kind[kind].push(value));
            }
        }
    }
    Ok(all)
}

/// A figure of one quantity of these kinds.
pub(crate) fn figure(name: &str, unit: &str, note: &str, kinds: &[&str], values: Vec<Vec<f64>>) -> Figure {
    let series = kinds.iter().map(|&kind| kind.to_owned()).zip(values).collect();
    Figure::new(name, unit, note, Pairs::Rounds, series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_begin_with_another_kind_and_the_first_is_not_counted() {
        let mut order = Vec::new();
        let [values, doubled] = interleaved(2, 2, |kind| {
            order.push(kind);
            let value = order.len() as f64;
            Ok([value, 2.0 * value])
        })
        .unwrap();
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
        assert_eq!(values, [vec![4.0, 5.0], vec![3.0, 6.0]]);
        assert_eq!(doubled, [vec![8.0, 10.0], vec![6.0, 12.0]]);
    }
}

//! When a request is tried again: after a pause that grows and has jitter, a bounded number of times.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::Patience;

/// The pauses between the attempts of one request.
pub(crate) struct Pauses {
    patience: Patience,
    rest: ExponentialBackoff,
}

impl Pauses {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, rest: pauses(&patience) }
    }

    /// How long to wait before the next attempt, at least as long as the registry asked for; `None` after the last one.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let own = self.rest.next()?;
        Some(own.max(asked.unwrap_or_default()).min(self.patience.longest_wait))
    }

    /// Counts from the beginning: there was progress.
    pub(crate) fn restart(&mut self) {
        self.rest = pauses(&self.patience);
    }
}

fn pauses(patience: &Patience) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(patience.first_wait)
        .with_max_delay(patience.longest_wait)
        .with_max_times(patience.attempts.saturating_sub(1))
        .with_jitter()
        .build()
}

/// What `Retry-After` says: seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(httpdate::parse_http_date(header).ok()?.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:07 GMT", now), Some(Duration::ZERO));
        for nonsense in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }

    #[test]
    fn attempts_are_bounded_and_pauses_too() {
        let mut pauses = Pauses::new(Patience::default());
        let hour = Some(Duration::from_secs(3600));
        let all: Vec<_> = std::iter::from_fn(|| pauses.next(hour)).collect();
        assert_eq!(all, [Duration::from_secs(60); 5]);
        pauses.restart();
        assert!(pauses.next(None).is_some());
    }
}

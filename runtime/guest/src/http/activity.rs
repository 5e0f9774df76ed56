//! What goes on on one connection, and the time that it has for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::Version;
use tokio::time::Instant;
use wisp_contract::plan::HttpSettings;

/// What a response gets to be written after its request's time is over: the 504 itself.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Milliseconds since this process began to serve; times of connections fit into an atomic that way.
pub(super) fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Never 0, which says "never".
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// What is known of one connection.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Requests whose responses have not been sent.
    active: AtomicU64,
    served: AtomicU64,
    is_http2: AtomicBool,
    /// When the connection was opened, or its last response ended.
    idle_since: AtomicU64,
    /// When the first bytes after that came; 0 if none did.
    heard_at: AtomicU64,
    /// When the last request began.
    began_at: AtomicU64,
    /// Whether nobody has read the body of the last request to its end.
    unread: AtomicBool,
}

impl State {
    /// Of a connection that was opened now.
    pub(super) fn new() -> Self {
        Self { idle_since: AtomicU64::new(now()), ..Self::default() }
    }

    /// Notes that bytes have come.
    pub(super) fn hear(&self) {
        if self.active.load(Ordering::Relaxed) == 0 {
            let _ = self.heard_at.compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether a request has come on it.
    pub(super) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed) > 0
    }

    /// Whether it speaks HTTP/2, as far as its requests have shown.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Whether its client may still send what nobody will read (of HTTP/1; HTTP/2 says so for each stream).
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed) && !self.is_http2()
    }

    /// When the connection has had its time, in milliseconds as [`now`] counts.
    pub(super) fn deadline(&self, settings: &HttpSettings) -> u64 {
        let at = |time: &AtomicU64| time.load(Ordering::Relaxed);
        if at(&self.active) > 0 {
            let last_words = u64::try_from(LAST_WORDS.as_millis()).unwrap_or(u64::MAX);
            return at(&self.began_at).saturating_add(settings.request_timeout_ms).saturating_add(last_words);
        }
        let idle = at(&self.idle_since).saturating_add(settings.idle_timeout_ms);
        let is_http2 = self.is_http2();
        match at(&self.heard_at) {
            0 if at(&self.served) > 0 || is_http2 => idle,
            0 => idle.min(at(&self.idle_since).saturating_add(settings.header_timeout_ms)),
            // HTTP/2 has frames that belong to no request.
            _ if is_http2 => idle,
            heard => heard.saturating_add(settings.header_timeout_ms),
        }
    }

    /// Whether the time is over in the middle of a request's headers (of HTTP/1).
    pub(super) fn is_in_headers(&self) -> bool {
        self.active.load(Ordering::Relaxed) == 0
            && self.heard_at.load(Ordering::Relaxed) != 0
            && !self.is_http2()
    }
}

/// A request on a connection, until its response has been sent.
pub(crate) struct Activity(Arc<State>);

impl Activity {
    pub(super) fn begin(state: &Arc<State>, version: Version) -> Self {
        state.active.fetch_add(1, Ordering::Relaxed);
        state.served.fetch_add(1, Ordering::Relaxed);
        state.heard_at.store(0, Ordering::Relaxed);
        state.began_at.store(now(), Ordering::Relaxed);
        state.unread.store(false, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            state.is_http2.store(true, Ordering::Relaxed);
        }
        Self(Arc::clone(state))
    }

    /// A handle by which whoever reads the request's body says that it was not read to its end.
    pub(super) fn unread(&self) -> Unread {
        Unread(Arc::clone(&self.0))
    }
}

/// See [`Activity::unread`].
pub(super) struct Unread(Arc<State>);

impl Unread {
    pub(super) fn note(&self) {
        self.0.unread.store(true, Ordering::Relaxed);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.0.idle_since.store(now(), Ordering::Relaxed);
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> HttpSettings {
        HttpSettings {
            header_timeout_ms: 10,
            idle_timeout_ms: 100,
            request_timeout_ms: 1_000,
            ..HttpSettings::default()
        }
    }

    #[test]
    fn headers_that_do_not_end_have_less_time_than_a_kept_connection() {
        let state = Arc::new(State { idle_since: AtomicU64::new(1), ..State::default() });
        assert_eq!(state.deadline(&settings()), 11, "a client that connects and says nothing");
        drop(Activity::begin(&state, Version::HTTP_11));
        let idle_since = state.idle_since.load(Ordering::Relaxed);
        assert_eq!(state.deadline(&settings()), idle_since + 100, "a connection that is kept");
        state.heard_at.store(5, Ordering::Relaxed);
        assert_eq!(state.deadline(&settings()), 15, "headers that begin and do not end");
        assert!(state.is_in_headers());
    }

    #[test]
    fn a_connection_is_not_idle_while_a_response_is_on_its_way() {
        let state = Arc::new(State::default());
        let activity = Activity::begin(&state, Version::HTTP_11);
        assert!(state.deadline(&settings()) > 1_000);
        drop(activity);
        assert!(state.deadline(&settings()) < 1_000);
    }
}

//! What comes out of pipes, while it comes.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::lock;

/// What comes out of a pipe, while it comes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text(Arc<Pipe>);

#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<Sofar>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Sofar {
    bytes: Vec<u8>,
    ended: bool,
}

impl Text {
    pub(crate) fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Self::default();
        let (Some(mut pipe), shared) = (pipe, text.clone()) else { return text };
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut state = lock(&shared.0.state);
                state.bytes.extend_from_slice(&buffer[..read]);
                state.ended = read == 0;
                shared.0.news.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        text
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0.state).bytes).into_owned()
    }

    fn contains(&self, text: &str) -> bool {
        self.text().replace('\r', "").contains(text)
    }

    pub(crate) fn ended(&self) -> bool {
        lock(&self.0.state).ended
    }

    /// Waits for a text here or in `other`, which is looked at from time to time.
    pub(crate) fn wait_for(&self, text: &str, other: &Self, limit: Duration) -> bool {
        let start = Instant::now();
        loop {
            let ended = self.ended() && other.ended() || start.elapsed() > limit;
            if self.contains(text) || other.contains(text) {
                return true;
            }
            if ended {
                return false;
            }
            drop(self.0.news.wait_timeout(lock(&self.0.state), Duration::from_millis(10)));
        }
    }

    /// All of it, once the other end is closed.
    pub(crate) fn whole(&self, limit: Duration) -> String {
        drop(self.0.news.wait_timeout_while(lock(&self.0.state), limit, |state| !state.ended));
        self.text()
    }
}

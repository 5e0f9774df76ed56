//! When the shim ends: once containerd has asked for it and nothing is left that the shim is there for, which are
//! containers and the pod's sandbox.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::warn;

/// How long a shim with nothing to be there for waits for something, or for the request to end.
const ORPHANED: Duration = Duration::from_secs(60);

/// The shim's reasons to live.
#[derive(Debug)]
pub(crate) struct Life {
    patience: Duration,
    /// How many there are.
    reasons: watch::Sender<usize>,
    /// Whether containerd has asked for the end since the last one came.
    asked: AtomicBool,
    now: Notify,
}

impl Default for Life {
    fn default() -> Self {
        Self::new(ORPHANED)
    }
}

impl Life {
    fn new(patience: Duration) -> Self {
        Self { patience, reasons: Default::default(), asked: Default::default(), now: Default::default() }
    }

    /// There is one more reason, of which whoever asked for the end before did not know.
    pub(crate) fn add(&self) {
        self.reasons.send_modify(|reasons| *reasons += 1);
        self.asked.store(false, Ordering::Relaxed);
    }

    /// One reason is gone.
    pub(crate) fn remove(&self) {
        self.reasons.send_modify(|reasons| *reasons = reasons.saturating_sub(1));
    }

    /// The shim is to end, if nothing is left: containerd asks after each task, and only the last time is meant.
    pub(crate) fn end(&self) {
        if *self.reasons.borrow() == 0 {
            self.now.notify_one();
        } else {
            self.asked.store(true, Ordering::Relaxed);
        }
    }

    /// The shim is to end, if nothing is left and that was asked for before: containerd will not ask again after something that
    /// it has never known of.
    pub(crate) fn end_if_asked(&self) {
        if self.asked.load(Ordering::Relaxed) {
            self.end();
        }
    }

    /// Waits until the shim is to end.
    pub(crate) async fn ended(&self) {
        tokio::select! {
            () = self.now.notified() => {}
            () = self.orphaned() => warn!("containerd has left this shim without a task, and has not ended it"),
        }
    }

    /// Waits until there has been nothing for a while. containerd does not ask for the end if it was killed between
    /// starting the shim and making a task, or if its client went away while it deleted the last one.
    async fn orphaned(&self) {
        let mut reasons = self.reasons.subscribe();
        // The sender is part of `self`, so waiting does not fail.
        while reasons.wait_for(|reasons| *reasons == 0).await.is_ok() {
            if timeout(self.patience, reasons.wait_for(|reasons| *reasons > 0)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn has_ended(life: &Life) -> bool {
        timeout(Duration::from_millis(1), life.now.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn a_request_to_end_is_meant_only_when_nothing_is_left() {
        let life = Life::default();
        life.add();
        life.add();
        life.remove();
        life.end();
        assert!(!has_ended(&life).await, "the sandbox is still there");
        life.remove();
        assert!(!has_ended(&life).await, "containerd asks again after each task");
        life.end();
        assert!(has_ended(&life).await);
    }

    #[tokio::test]
    async fn what_came_to_nothing_ends_a_shim_that_was_asked_to_end_meanwhile() {
        let life = Life::default();
        life.add();
        life.end();
        life.remove();
        life.end_if_asked();
        assert!(has_ended(&life).await);
        life.add();
        life.remove();
        life.end_if_asked();
        assert!(!has_ended(&life).await, "nobody has asked since it came");
    }

    #[tokio::test]
    async fn a_shim_without_anything_ends_by_itself() {
        let life = Life::new(Duration::from_millis(1));
        life.add();
        assert!(timeout(Duration::from_millis(50), life.ended()).await.is_err(), "there is something");
        life.remove();
        assert!(timeout(Duration::from_secs(60), life.ended()).await.is_ok());
    }
}

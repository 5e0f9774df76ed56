//! The thread that holds a pod's namespaces: the first one of the process, because `/proc/<pid>/ns` shows that one's, and
//! containerd gives them to the pod's containers. It does nothing else. The shim serves on a second thread, which
//! stays in the node's namespaces, and so do the runtimes and hooks that it starts.

use std::io;
use std::mem::MaybeUninit;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, anyhow};
use tokio::sync::oneshot;

use crate::error::{Error, Result};

type Order = Box<dyn FnOnce() + Send>;

/// A handle to the leading thread; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Leader(mpsc::Sender<Option<Order>>);

impl Leader {
    /// Has the leading thread do something, in its own namespaces.
    ///
    /// # Errors
    /// Those of `act`, or the shim is about to end.
    pub(crate) async fn order<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        // Where the thread is gone, nobody tells.
        let _ = self.0.send(Some(Box::new(move || drop(tell.send(act())))));
        told.await.unwrap_or_else(|_| Err(Error::unknown("the shim ends")))
    }
}

/// Tells the leading thread that the serving one has ended, in whatever way.
struct End(mpsc::Sender<Option<Order>>);

impl Drop for End {
    fn drop(&mut self) {
        // If it is gone, so is the process.
        let _ = self.0.send(None);
    }
}

/// Makes the calling thread, which must be the first and only one, the leader: `serve` runs on another, and the leader obeys
/// until that has ended.
///
/// # Errors
/// The other thread cannot be started, or has panicked.
pub(crate) fn lead<T: Send + 'static>(serve: impl FnOnce(Leader) -> T + Send + 'static) -> anyhow::Result<T> {
    let (orders, received) = mpsc::channel::<Option<Order>>();
    // Signals are for the thread that serves.
    let inherited = block_signals().context("blocking signals")?;
    let serving = thread::Builder::new().name("serve".to_owned()).spawn(move || {
        let _end = End(orders.clone());
        restore_signals(&inherited)?;
        Ok::<T, io::Error>(serve(Leader(orders)))
    });
    let serving = serving.context("starting the thread that serves")?;
    while let Ok(Some(order)) = received.recv() {
        order();
    }
    let served = serving.join().map_err(|_| anyhow!("the thread that serves has panicked"))?;
    served.context("unblocking signals")
}

fn block_signals() -> io::Result<libc::sigset_t> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the first call fills the set that the second reads, and the second fills `before` where it succeeds.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn restore_signals(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is one that the kernel has filled, and nothing is asked back.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn orders_are_done_by_the_thread_that_leads() {
        let leading = thread::current().id();
        let (obeyed, refused) = lead(move |leader| {
            let obeyed = block_on(leader.order(|| Ok(thread::current().id()))).unwrap();
            let refused = block_on(leader.order(|| Err::<(), _>(Error::unknown("no")))).unwrap_err();
            (obeyed == leading && thread::current().id() != leading, refused.to_string())
        })
        .unwrap();
        assert_eq!((obeyed, refused.as_str()), (true, "no"));
    }

    #[test]
    fn a_panic_of_the_serving_thread_ends_the_leading_one() {
        assert!(lead(|_| panic!("as a test")).map(|(): ()| ()).is_err());
    }
}

//! What containerd asks of the shim over ttrpc, translated: a call of a service is found here by its name, and what it does in
//! the room of what it is done to.

mod sandbox;
mod task;

use containerd_shim_protos::ttrpc;

pub(crate) use self::sandbox::SandboxService;
pub(crate) use self::task::TaskService;

use crate::error::{Error, Result};

/// Does something to the end, even if the client does not wait for it.
async fn finish<T: Send + 'static>(
    act: impl Future<Output = Result<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    match tokio::spawn(act).await {
        Ok(result) => result.map_err(ttrpc::Error::from),
        Err(error) => Err(Error::unknown(format!("the shim failed at this request: {error}")).into()),
    }
}

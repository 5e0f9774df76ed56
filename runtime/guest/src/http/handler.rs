//! Handing a request to an instance of the program, whichever WASI it is of.

use std::sync::Arc;

use http::{Request, Response};
use tokio::time::Instant;
use wasmtime_wasi_http::WasiBody;

use super::calls::Calls;
use super::instances::{Instances, Ticket, Unhandled};
use super::tasks::Tasks;

/// The program, as something that takes requests.
#[derive(Clone)]
pub(crate) enum Handler {
    /// A program of WASI 0.2.
    Calls(Arc<Calls>),
    /// A program of WASI 0.3.
    Tasks(Tasks),
}

impl Handler {
    /// What instances are made from.
    pub(crate) fn instances(&self) -> &Arc<Instances> {
        match self {
            Self::Calls(calls) => calls.instances(),
            Self::Tasks(tasks) => tasks.instances(),
        }
    }

    /// Hands a request to an instance, which has until `deadline`, and returns its answer; the instance may go on after that.
    ///
    /// # Errors
    /// Where there could be no instance, or it did not answer.
    pub(crate) async fn handle(
        &self,
        ticket: &Arc<Ticket>,
        request: Request<WasiBody>,
        deadline: Instant,
    ) -> Result<Response<WasiBody>, Unhandled> {
        match self {
            Self::Calls(calls) => calls.handle(ticket, request, deadline).await,
            Self::Tasks(tasks) => tasks.handle(ticket, request).await,
        }
    }
}

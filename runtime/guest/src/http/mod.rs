//! HTTP services.
use crate::command::Run;
use crate::prepare::Parts;
use anyhow::{Result, bail};
use wasmtime::component::Component;

pub(crate) fn service(_parts: &Parts<'_>, _component: &Component) -> Result<Run> {
    bail!("not yet")
}

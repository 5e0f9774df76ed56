//! How long things take to start and to end.

mod commands;
mod pods;
mod service;

use std::time::Duration;

use anyhow::Result;

use crate::bed;
use crate::figure::Figure;

/// Measures it all on one containerd.
///
/// # Errors
/// What did not start.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let node = bed::start()?;
    let mut figures = vec![commands::one(&node.bed)?, commands::at_once(&node.bed)?];
    figures.extend(pods::measure(&node)?);
    figures.extend(service::measure(&node)?);
    Ok(figures)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

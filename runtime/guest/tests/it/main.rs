//! `wisp-compiler` and `wisp-guest` as processes, with plans as `wisp-runtime` makes them and guests in WebAssembly text.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails in a test's helper fails the test")]

mod bed;
mod commands;
mod control;
mod exports;
mod refusals;

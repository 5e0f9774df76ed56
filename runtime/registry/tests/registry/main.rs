//! The client against registries that do what networks and registries do: cut, stall, lie, redirect, and ask for logins.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod login;
mod mirrors;
mod packages;
mod pull;
mod push;
mod server;
mod tls;

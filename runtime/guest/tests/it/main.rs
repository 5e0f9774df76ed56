//! `wisp-compiler` and `wisp-guest` as processes, with plans as `wisp-runtime` makes them and guests in WebAssembly text.

mod bed;
mod commands;
mod control;
mod exports;
mod refusals;

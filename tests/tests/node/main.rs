//! What changes a node: `wisp install` into containerds as they are found in the world, and `wisp doctor`.

mod doctor;
mod forms;
mod install;
mod kind;
mod refusals;

fn main() {
    wisp_tests::suite::main(&[install::CASES, refusals::CASES, forms::CASES, doctor::CASES, kind::CASES])
}

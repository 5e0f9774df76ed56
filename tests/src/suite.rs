//! From a table of cases to a test binary that leaves the machine as it was, however it ends.

use std::sync::{Arc, Mutex};
use std::{fs, thread};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use nix::mount::{MntFlags, umount2};

use crate::bed::{self, Bed, lock};
use crate::cri::node::{Node, Variant};
use crate::finish::{self, leak_trial};
use crate::leaks::{self, Inventory};
use crate::{Outcome, site, space};

/// One case: a name that is a sentence with underscores, and where it runs.
#[derive(Debug, Clone, Copy)]
pub enum Case {
    /// In the bed of each version, beside other cases.
    Shared(&'static str, fn(&Bed) -> Outcome),
    /// On each version, in beds that it starts itself.
    Own(&'static str, fn(&'static str) -> Outcome),
    /// Under each handler of a containerd with CRI, beside other cases.
    Pods(&'static str, fn(&Node) -> Outcome),
    /// The same, under those handlers where containerd can do it.
    PodsWhere(&'static str, fn(Variant) -> bool, fn(&Node) -> Outcome),
    /// Under each handler, on nodes that it starts itself.
    OwnPods(&'static str, fn(Variant) -> Outcome),
    /// Once.
    Once(&'static str, fn() -> Outcome),
    /// Once, and only where it is asked for with `--ignored`: it wants a program that the testbed does not have by default.
    OnRequest(&'static str, fn() -> Outcome),
}

/// A table of cases, each named as its function.
#[macro_export]
macro_rules! cases {
    ($kind:ident: $($case:ident),* $(,)?) => {
        &[$($crate::suite::Case::$kind(stringify!($case), $case)),*]
    };
    ($kind:ident where $can:path: $($case:ident),* $(,)?) => {
        &[$($crate::suite::Case::$kind(stringify!($case), $can, $case)),*]
    };
}

/// Runs the cases of these tables with the arguments of `cargo test`, then looks at what is left, and ends the process.
pub fn main(tables: &[&[Case]]) -> ! {
    let mut arguments = Arguments::from_args();
    // Cases wait more than they work, and those of all versions for the same.
    let threads = 4 * thread::available_parallelism().map_or(1, usize::from).min(4);
    arguments.test_threads.get_or_insert(threads);
    let trials = tables.iter().flat_map(|table| table.iter()).flat_map(|&case| trials(case)).collect();
    if arguments.list {
        libtest_mimic::run(&arguments, trials).exit();
    }
    let failed = in_memory().and_then(|()| swept(|| finish::run(&arguments, trials, leak_trials)));
    match failed {
        Ok(failed) => finish::exit(failed),
        Err(error) => finish::fail(&error.to_string()),
    }
}

/// Keeps the run's folder in memory: to put on a disk what containerd writes takes as much of the processor as what is tested.
fn in_memory() -> Result<()> {
    site::require_root()?;
    space::keep_in_memory(site::run_folder()?)
}

/// Runs a job that starts beds, and leaves the machine as it was, also where a signal ends it.
///
/// # Errors
/// Where this process may not make namespaces.
pub fn swept<T>(job: impl FnOnce() -> T) -> Result<T> {
    site::require_root()?;
    leaks::sweep_dead_runs();
    finish::end_on_signals(end);
    let done = job();
    end();
    Ok(done)
}

fn trials(case: Case) -> Vec<Trial> {
    let named = |version: &str, name: &str| format!("{version}/{name}");
    match case {
        Case::Once(name, run) => vec![finish::trial(name.to_owned(), move || with_own_beds(run))],
        Case::OnRequest(name, run) => {
            vec![finish::trial(name.to_owned(), move || with_own_beds(run)).with_ignored_flag(true)]
        }
        Case::Own(name, run) => site::VERSIONS
            .iter()
            .map(|&version| finish::trial(named(version, name), move || with_own_beds(|| run(version))))
            .collect(),
        Case::Pods(name, run) => trials(Case::PodsWhere(name, |_| true, run)),
        Case::PodsWhere(name, can, run) => Variant::all()
            .into_iter()
            .filter(|&variant| can(variant))
            .map(|variant| {
                let run = move || shared_node(variant).and_then(|node| run(&node));
                finish::trial(named(&variant.name(), name), run)
            })
            .collect(),
        Case::OwnPods(name, run) => Variant::all()
            .into_iter()
            .map(|variant| {
                finish::trial(named(&variant.name(), name), move || with_own_beds(|| run(variant)))
            })
            .collect(),
        Case::Shared(name, run) => site::VERSIONS
            .iter()
            .map(|&version| {
                finish::trial(named(version, name), move || shared(version).and_then(|bed| run(&bed)))
            })
            .collect(),
    }
}

/// Runs a case, and ends what it has started, whether it answers or panics.
fn with_own_beds(run: impl FnOnce() -> Outcome) -> Outcome {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            bed::end_own();
        }
    }
    let _end = End;
    run()
}

/// What each shared bed held before its first case.
static BEFORE: Mutex<Vec<(Arc<Bed>, Inventory)>> = Mutex::new(Vec::new());

fn shared(version: &'static str) -> Result<Arc<Bed>> {
    let bed = bed::shared(version, || Bed::start(version))?;
    look_before(&bed, || bed.import_guests().map(drop))?;
    Ok(bed)
}

fn shared_node(variant: Variant) -> Result<Node> {
    let node = Node::shared(variant)?;
    // The first pod makes what stays: the bridge, and the folders of networks.
    look_before(&node.bed, || {
        let runc = node.under_runc()?;
        runc.pod().run()?.container(&["/native"]).run().map(drop)
    })?;
    Ok(node)
}

/// Notes what a bed holds once it is `prepared`; whoever comes second waits for the first.
fn look_before(bed: &Arc<Bed>, prepare: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut before = lock(&BEFORE);
    if !before.iter().any(|(known, _)| Arc::ptr_eq(known, bed)) {
        prepare()?;
        before.push((Arc::clone(bed), Inventory::of(bed)?));
    }
    Ok(())
}

fn leak_trials() -> Vec<Trial> {
    let beds = std::mem::take(&mut *lock(&BEFORE)).into_iter();
    beds.map(|(bed, before)| leak_trial(bed.version, move || Inventory::nothing_new(&bed, &before))).collect()
}

/// Ends all beds and removes the run's folder.
fn end() {
    bed::end_all();
    if let Ok(folder) = site::run_folder() {
        let _ = umount2(folder, MntFlags::MNT_DETACH); // where it is in memory
        let _ = fs::remove_dir_all(folder);
    }
}

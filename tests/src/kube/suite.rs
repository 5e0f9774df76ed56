//! From tables of cases to a test binary that leaves cluster and nodes as they were, however it ends.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::{env, fs, thread};

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Trial};

use crate::bed::lock;
use crate::finish::{self, judged, leak_trial};
use crate::kube::eventually;
use crate::kube::node::Node;
use crate::kube::scene::Scene;
use crate::kube::world::{self, PODSANDBOX, World, world};
use crate::{Outcome, leaks, site};

/// Where a case runs: a node and a RuntimeClass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The node on this machine; the shim is the sandbox.
    Host,
    /// The same node; pods have a pause container.
    Pause,
    /// The node with systemd and version 2 of control groups; the shim is the sandbox.
    Uml,
    /// Wherever the scheduler of a person's own cluster puts it.
    Own,
}

impl Place {
    /// What its cases' names begin with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Pause => "pause",
            Self::Uml => "uml",
            Self::Own => "own",
        }
    }

    /// Its RuntimeClass.
    #[must_use]
    pub fn class(self) -> &'static str {
        if self == Self::Pause { PODSANDBOX } else { "wisp" }
    }

    fn node(self) -> &'static str {
        if self == Self::Uml { "uml" } else { "host" }
    }
}

/// Both nodes, and with a pause container.
pub const EVERYWHERE: &[Place] = &[Place::Host, Place::Pause, Place::Uml];
/// Both nodes.
pub const NODES: &[Place] = &[Place::Host, Place::Uml];
/// This machine, both ways.
pub const BOTH_SANDBOXES: &[Place] = &[Place::Host, Place::Pause];
/// This machine.
pub const HOST: &[Place] = &[Place::Host];
/// The node with systemd and version 2 of control groups.
pub const UML: &[Place] = &[Place::Uml];

/// What a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A cluster, whoever's; others run beside it.
    Pods,
    /// The node itself, to look at; others run beside it.
    Node,
    /// The node itself, to disturb: it runs when all others have ended.
    Alone,
    /// The node alone, and only where it is asked for with `--ignored`: it prints figures, or wants a program that the testbed
    /// does not have by default.
    OnRequest,
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// A sentence with underscores.
    pub name: &'static str,
    /// What it needs.
    pub kind: Kind,
    /// Where it runs.
    pub places: &'static [Place],
    /// What it does.
    pub run: fn(&Scene<'_>) -> Outcome,
}

/// A table of cases of a [`Kind`] in places, each named as its function.
#[macro_export]
macro_rules! kube_cases {
    ($kind:ident, $places:expr; $($case:ident),* $(,)?) => {
        &[$($crate::kube::suite::Case {
            name: stringify!($case),
            kind: $crate::kube::suite::Kind::$kind,
            places: $places,
            run: $case,
        }),*]
    };
}

/// How many cases of each node run at once: they wait for kubelet's periods more than they work.
const AT_ONCE: [(&str, usize); 2] = [("host", 4), ("uml", 3)];

/// Runs the cases of these tables with the arguments of `cargo test`, and ends the process. `NODES=host,uml` says which nodes.
pub fn main(tables: &[&[Case]]) -> ! {
    let arguments = Arguments::from_args();
    let requested = arguments.ignored || arguments.include_ignored;
    let cases = || {
        let all = tables.iter().flat_map(|table| table.iter()).copied();
        all.filter(move |case| requested || case.kind != Kind::OnRequest)
    };
    let (alone, together): (Vec<_>, Vec<_>) =
        cases().partition(|case| matches!(case.kind, Kind::Alone | Kind::OnRequest));
    if arguments.list {
        libtest_mimic::run(&arguments, trials(&cases().collect::<Vec<_>>(), |_| true)).exit();
    }
    if world::foreign().is_none() {
        if let Err(error) = site::require_root() {
            finish::fail(&error.to_string());
        }
        leaks::sweep_dead_runs();
    }
    finish::end_on_signals(end);

    // Those that want a node alone come last, and then wait for each other, but never for those of the other node.
    let cases: Vec<_> = together.into_iter().chain(alone).collect();
    let failed = thread::scope(|scope| {
        let lines = AT_ONCE.map(|(node, at_once)| {
            let trials = trials(&cases, |place| place.node() == node);
            let mut arguments = arguments.clone();
            arguments.test_threads.get_or_insert(at_once);
            scope.spawn(move || !trials.is_empty() && finish::run(&arguments, trials, || leak_trials(node)))
        });
        lines.map(|line| line.join().unwrap_or(true)).contains(&true)
    });
    end();
    finish::exit(failed)
}

/// The nodes that `NODES` names; both without it.
fn wanted(place: Place) -> bool {
    let nodes = env::var("NODES").unwrap_or_default();
    nodes.is_empty() || nodes.split(',').any(|name| name.trim() == place.node())
}

/// The trials of cases in some of their places.
fn trials(cases: &[Case], here: impl Fn(Place) -> bool + Copy) -> Vec<Trial> {
    cases.iter().flat_map(|&case| trials_of(case, here)).collect()
}

fn trials_of(case: Case, here: impl Fn(Place) -> bool) -> Vec<Trial> {
    if world::foreign().is_some() {
        if !here(Place::Own) {
            return Vec::new();
        }
        let trial = Trial::test(format!("own/{}", case.name), move || judged(run(case, Place::Own)));
        // Shown as ignored and not counted as passed: nothing but pods can be had from a cluster of one's own.
        return vec![trial.with_ignored_flag(case.kind != Kind::Pods)];
    }
    let places = case.places.iter().copied().filter(|&place| wanted(place) && here(place));
    let trial = |place: Place| {
        Trial::test(format!("{}/{}", place.name(), case.name), move || judged(run(case, place)))
            .with_ignored_flag(case.kind == Kind::OnRequest)
    };
    places.map(trial).collect()
}

/// A case's turn on its node: with others, or alone.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

impl Turn {
    fn take(place: Place, alone: bool) -> Self {
        static NODES: [RwLock<()>; 2] = [RwLock::new(()), RwLock::new(())];
        let node = &NODES[usize::from(place == Place::Uml)];
        // A case that panicked has left the node as good as any.
        if alone {
            Self::Alone { _guard: node.write().unwrap_or_else(PoisonError::into_inner) }
        } else {
            Self::Shared { _guard: node.read().unwrap_or_else(PoisonError::into_inner) }
        }
    }
}

/// What each node held before its first case.
static BEFORE: Mutex<Vec<(&'static str, BTreeSet<String>)>> = Mutex::new(Vec::new());

fn run(case: Case, place: Place) -> Outcome {
    let world = world()?;
    if place == Place::Own {
        return within_namespace(world, place, None, case.run);
    }
    world.start_nodes(
        [Place::Host, Place::Uml].into_iter().filter(|&place| wanted(place)).map(Place::node).collect(),
    );
    let node = world.node(place.node())?;
    let _turn = Turn::take(place, matches!(case.kind, Kind::Alone | Kind::OnRequest));
    let mut before = lock(&BEFORE);
    if !before.iter().any(|(name, _)| *name == node.name()) {
        before.push((node.name(), node.inventory()?));
    }
    drop(before);
    let name = format!("{}/{}", place.name(), case.name);
    finish::noted(name, || within_namespace(world, place, Some(&*node), case.run))
}

/// Runs a case in a Kubernetes namespace of its own, and deletes that.
fn within_namespace(
    world: &World,
    place: Place,
    node: Option<&dyn Node>,
    run: fn(&Scene<'_>) -> Outcome,
) -> Outcome {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    let namespace =
        format!("{}-{}-{}", site::run_name(), place.name(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let kubectl = world.kubectl.within(&namespace);
    let outcome = kubectl
        .create_namespace()
        .and_then(|()| run(&Scene { kubectl: kubectl.clone(), place, image: world.image.clone(), node }));
    let outcome = outcome.map_err(|error| match node {
        Some(node) => anyhow!("{error:#}\n{}", node.logged(&namespace)),
        None => error,
    });
    // Kept for a person to look at, where that was asked for.
    if env::var_os("WISP_TESTS_KEEP").is_none() {
        kubectl.delete_namespace()?;
    }
    outcome
}

fn leak_trials(node: &str) -> Vec<Trial> {
    let before: Vec<_> = lock(&BEFORE).extract_if(.., |(name, _)| *name == node).collect();
    before.into_iter().map(|(name, before)| leak_trial(name, move || nothing_new(name, &before))).collect()
}

fn nothing_new(name: &str, before: &BTreeSet<String>) -> Result<()> {
    let world = world()?;
    let places = [Place::Host, Place::Pause, Place::Uml].into_iter().filter(|place| place.node() == name);
    let prefixes: Vec<_> = places.map(|place| format!("{}-{}-", site::run_name(), place.name())).collect();
    eventually("all namespaces of the node's cases are gone", || {
        let namespaces = world.kubectl.raw("/api/v1/namespaces")?;
        Ok((!prefixes.iter().any(|prefix| namespaces.contains(prefix))).then_some(()))
    })?;
    world.node(name)?.nothing_new(before)
}

/// Ends everything and removes the run's folder.
fn end() {
    world::end();
    if let Ok(folder) = site::run_folder() {
        let _ = fs::remove_dir_all(folder);
    }
}

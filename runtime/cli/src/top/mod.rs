//! `wisp top`: the Wasm tasks of this node and what they use.
//!
//! containerd says which tasks there are and what their control groups count ([`node`]), in the messages that `kubectl top` comes
//! from ([`figures`]); what their guests count is read from the pages that they keep ([`wisp_contract::counters`]). Nothing of
//! it wakes a guest.

mod figures;
mod node;
mod table;

use std::cmp::Reverse;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use wisp_contract::counters::Snapshot;
use wisp_contract::facts::Kind;

use node::Node;

/// Where containerd listens unless it is told otherwise.
const ADDRESS: &str = "/run/containerd/containerd.sock";
/// The time between two looks on a terminal.
const REFRESH: Duration = Duration::from_secs(2);
/// The time over which processors are measured for one look.
const SAMPLE: Duration = Duration::from_secs(1);
/// The longest that containerd may take for one look.
const LIMIT: Duration = Duration::from_secs(30);

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// containerd's socket; by default $CONTAINERD_ADDRESS, or /run/containerd/containerd.sock
    #[arg(short, long, value_name = "SOCKET")]
    address: Option<PathBuf>,
    /// Only tasks of this containerd namespace (k8s.io has the pods)
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// The order of the list
    #[arg(long, value_enum, default_value_t = Order::Cpu)]
    sort: Order,
    /// Look once, as is done where the output is no terminal
    #[arg(long)]
    once: bool,
    /// Look once and print JSON (its fields are in docs/cli.md)
    #[arg(long)]
    json: bool,
}

/// By what tasks are sorted; figures from the largest on.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Order {
    Cpu,
    Memory,
    Requests,
    Name,
}

/// A Wasm task. Sizes are in bytes; fields are added and never taken away.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Task {
    /// The containerd namespace.
    namespace: String,
    /// The container's id.
    id: String,
    /// The guest process.
    pid: u32,
    /// `created`, `running` or `paused`.
    status: &'static str,
    /// The image as its user named it.
    image: String,
    /// The pod, if there is one.
    pod: Option<Pod>,
    /// What the guest is.
    kind: Option<Kind>,
    /// Hundredths of one processor, since the last look.
    cpu_percent: Option<f64>,
    /// Processor time since the start, in nanoseconds.
    cpu_ns: Option<u64>,
    /// Memory as kubelet counts it: the control group's, without files that can be dropped.
    memory_bytes: Option<u64>,
    /// What the guest counts.
    counters: Snapshot,
}

/// The pod of a task.
#[derive(Debug, Clone, Serialize)]
struct Pod {
    /// The Kubernetes namespace.
    namespace: String,
    /// The pod.
    name: String,
    /// The container in the pod.
    container: String,
    /// How often kubelet has started it again.
    restarts: Option<u32>,
}

impl Task {
    /// What a person calls it.
    fn name(&self) -> String {
        match &self.pod {
            Some(pod) => format!("{}/{}/{}", pod.namespace, pod.name, pod.container),
            None => self.id.clone(),
        }
    }
}

/// Shows the tasks, once or until it is interrupted.
///
/// # Errors
/// Where containerd does not answer.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut look = Look::begin(args).await?;
        let lasts = !args.once && !args.json && io::stdout().is_terminal();
        tokio::time::sleep(SAMPLE).await;
        loop {
            let mut tasks = look.again().await?;
            sort(&mut tasks, args.sort);
            if args.json {
                writeln!(out, "{}", serde_json::to_string_pretty(&tasks)?)?;
            } else {
                // Home, and whatever was below is cleared.
                let clear = if lasts { "\x1b[H\x1b[2J" } else { "" };
                write!(out, "{clear}{}", table::text(&tasks))?;
            }
            out.flush()?;
            if !lasts {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(REFRESH).await;
        }
    })
}

/// One look after the other, between which processors are measured.
struct Look<'a> {
    node: Node,
    namespace: Option<&'a str>,
    before: Vec<Task>,
    at: Instant,
}

impl<'a> Look<'a> {
    async fn begin(args: &'a Args) -> Result<Self> {
        let set = || std::env::var_os("CONTAINERD_ADDRESS").map(PathBuf::from);
        let address = args.address.clone().or_else(set).unwrap_or_else(|| ADDRESS.into());
        let node = Node::connect(&address).await.with_context(|| {
            format!("containerd was expected at {}; --address names another socket", address.display())
        })?;
        let namespace = args.namespace.as_deref();
        let before = tasks(&node, namespace).await?;
        Ok(Self { node, namespace, before, at: Instant::now() })
    }

    async fn again(&mut self) -> Result<Vec<Task>> {
        let mut now = tasks(&self.node, self.namespace).await?;
        let elapsed = self.at.elapsed();
        self.at = Instant::now();
        for task in &mut now {
            let before = self.before.iter().find(|before| (&before.id, before.pid) == (&task.id, task.pid));
            let before = before.and_then(|before| before.cpu_ns);
            task.cpu_percent = before.zip(task.cpu_ns).map(|(before, now)| percent(before, now, elapsed));
        }
        self.before.clone_from(&now);
        Ok(now)
    }
}

async fn tasks(node: &Node, namespace: Option<&str>) -> Result<Vec<Task>> {
    let answered = tokio::time::timeout(LIMIT, node.tasks(namespace)).await;
    answered.with_context(|| format!("containerd did not answer within {LIMIT:?}"))?
}

/// The share of one processor between two counts of nanoseconds, to a tenth of a hundredth.
fn percent(before: u64, now: u64, elapsed: Duration) -> f64 {
    let share = now.saturating_sub(before) as f64 / elapsed.as_nanos().max(1) as f64;
    (share * 1000.0).round() / 10.0
}

fn sort(tasks: &mut [Task], order: Order) {
    tasks.sort_by_cached_key(Task::name);
    match order {
        Order::Name => {}
        Order::Cpu => {
            tasks.sort_by(|a, b| b.cpu_percent.unwrap_or(0.0).total_cmp(&a.cpu_percent.unwrap_or(0.0)))
        }
        Order::Memory => tasks.sort_by_key(|task| Reverse(task.memory_bytes)),
        Order::Requests => tasks.sort_by_key(|task| Reverse(task.counters.requests)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn task(id: &str, memory: u64, requests: u64) -> Task {
        Task {
            namespace: "default".into(),
            id: id.into(),
            pid: 7,
            status: "running",
            image: "app:1".into(),
            pod: None,
            kind: Some(Kind::Http02),
            cpu_percent: Some(1.5),
            cpu_ns: Some(1),
            memory_bytes: Some(memory),
            counters: Snapshot { requests, ..Snapshot::default() },
        }
    }

    #[test]
    fn figures_are_sorted_from_the_largest_on_and_names_from_a() {
        let mut tasks = [task("b", 1, 9), task("c", 2, 0), task("a", 1, 5)];
        let mut sorted = |order| {
            sort(&mut tasks, order);
            tasks.iter().map(|task| task.id.clone()).collect::<String>()
        };
        assert_eq!(sorted(Order::Name), "abc");
        assert_eq!(sorted(Order::Memory), "cab");
        assert_eq!(sorted(Order::Requests), "bac");
    }

    #[test]
    fn a_percent_is_of_one_processor() {
        let second = Duration::from_secs(1);
        assert_eq!(percent(1_000_000_000, 3_000_000_000, second), 200.0);
        assert_eq!(percent(5, 3, second), 0.0);
    }
}

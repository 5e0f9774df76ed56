//! What a request costs, beside a native server and `wasmtime serve` with the same component.

mod idle;
mod instance;
mod load;
mod quota;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use wisp_tests::cri::config::{RUNC, SHIM};
use wisp_tests::cri::node::Node;
use wisp_tests::cri::pod::{Pod, PodSpec};
use wisp_tests::image::Image;
use wisp_tests::site;

use self::load::Load;
use crate::figure::{Figure, Pairs};
use crate::rounds::{self, interleaved};
use crate::stats::quantile;
use crate::{bed, processes};

/// The names of what the others are compared with.
const NATIVE: &str = "native";
const WASMTIME: &str = "wasmtime serve";
/// The servers.
const KINDS: &[Kind] = &[
    Kind { name: NATIVE, handler: RUNC, args: &["/native-http"], annotations: &[] },
    Kind { name: "wisp", handler: SHIM, args: &["/http-0.2.wasm"], annotations: &[] },
    Kind {
        name: "wisp, an instance for 1000 requests",
        handler: SHIM,
        args: &["/http-0.2.wasm"],
        annotations: &[("wisp.dev/requests-per-instance", "1000")],
    },
    Kind { name: WASMTIME, handler: RUNC, args: SERVE, annotations: &[] },
];
/// The service needs more than the world of a proxy. What a pool keeps resident spares a system call for each memory and table.
const SERVE: &[&str] = &[
    "/wasmtime",
    "serve",
    "-Scli",
    "-Opooling-allocator=y",
    "-Opooling-memory-keep-resident=1048576",
    "-Opooling-table-keep-resident=65536",
    "-Opooling-async-stack-keep-resident=65536",
    "--max-instance-reuse-count=1",
    "--addr=0.0.0.0:8080",
    "/http-0.2.wasm",
];
/// The image of all of them.
const IMAGE: &str = "wisp.test/bench-http:1";
/// How many connections there are, and how long each part of a round takes.
const CONNECTIONS: usize = 50;
const TIME: Duration = Duration::from_secs(2);
/// A round of some seconds needs less repetition than one of milliseconds.
const FEWER: usize = 3;

/// Measures it all on one containerd.
///
/// # Errors
/// What did not start or answer.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let node = bed::start()?;
    node.import(&image()?)?;
    let mut figures = requests(&node)?;
    figures.push(instance::measure()?);
    figures.push(quota::measure(&node)?);
    figures.push(idle::measure(&node)?);
    Ok(figures)
}

fn image() -> Result<Image> {
    Ok(Image::new(IMAGE)
        .config("Entrypoint", json!(["/http-0.2.wasm"]))
        .file_of("/http-0.2.wasm", site::guest("http-0.2.wasm")?)
        .file_of("/native-http", bed::beside("native-http")?)
        .file_of("/wasmtime", site::wasmtime()?))
}

/// A server.
struct Kind {
    name: &'static str,
    handler: &'static str,
    /// Of the one container.
    args: &'static [&'static str],
    /// Of the pod.
    annotations: &'static [(&'static str, &'static str)],
}

impl Kind {
    /// A pod of this kind that is to be run.
    fn pod<'n>(&self, node: &'n Node) -> PodSpec<'n> {
        let annotations = self.annotations.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        node.pod().with(|config| config.annotations.extend(annotations))
    }
}

/// A service that runs.
struct Service<'n> {
    pod: Pod<'n>,
    processes: BTreeSet<i32>,
}

impl<'n> Service<'n> {
    /// Starts one in this pod, with these arguments, on these processors, with this quota of them, and waits for its first answer.
    fn start(pod: PodSpec<'n>, args: &[&str], processors: &str, quota: Option<i64>) -> Result<Self> {
        const PERIOD: i64 = 100_000;
        let pod = pod.run()?;
        let container = pod.container(args).image(IMAGE).resources(|resources| {
            resources.cpuset_cpus = processors.to_owned();
            if let Some(quota) = quota {
                (resources.cpu_period, resources.cpu_quota) = (PERIOD, quota * PERIOD);
            }
        });
        let container = container.start()?;
        let processes = processes::of(&container)?;
        let network = pod.pid()?;
        wisp_tests::bed::eventually("the first answer", wisp_tests::bed::LIMIT, || {
            Ok(processes::ask(network).ok())
        })
        .with_context(|| format!("{args:?} said {:?}", container.printed()))?;
        Ok(Self { pod, processes })
    }

    fn under(&self, load: Load) -> Result<load::Answered> {
        load.run(self.pod.pid()?, &self.processes)
    }
}

/// The cost of a request, how many are answered, and how long one takes at half of that rate.
fn requests(node: &Node) -> Result<Vec<Figure>> {
    let nodes = KINDS.iter().map(|kind| node.under(kind.handler)).collect::<Result<Vec<_>>>()?;
    let services = KINDS
        .iter()
        .zip(&nodes)
        .map(|(kind, node)| Service::start(kind.pod(node), kind.args, "0", None).context(kind.name))
        .collect::<Result<Vec<_>>>()?;
    let hello =
        |rate| Load { path: "/hello".into(), connections: CONNECTIONS, time: TIME, rate, awake: true };
    let [cost, rates, middle, slowest] =
        interleaved((rounds::count() / FEWER).max(1), KINDS.len(), |kind| {
            let service = &services[kind];
            let most = service.under(hello(None)).context(KINDS[kind].name)?;
            let half = service.under(hello(Some(most.per_second / 2.0))).context(KINDS[kind].name)?;
            let mut latencies = half.latencies;
            latencies.sort_by(f64::total_cmp);
            let at = |part| quantile(&latencies, part).context("no latency");
            Ok([most.processor, most.per_second, at(0.5)?, at(0.99)?])
        })?;
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    let figure = |name, unit, note, values| {
        rounds::figure(name, unit, note, &names, values).against(&[NATIVE, WASMTIME], Pairs::Rounds)
    };
    Ok(vec![
        figure(
            "processor time of a request, hello over HTTP",
            "µs",
            "Of all processes of the pod, user and system, on one processor, under as many requests as are answered over 50 connections that \
             are kept alive. Each request has a fresh instance, unless the series says otherwise; native has none.",
            cost,
        ),
        figure(
            "requests per second, hello over HTTP",
            "/s",
            "The same run. The generator has the other processor; native is at its limit. More is better.",
            rates,
        ),
        figure(
            "median latency at half of the highest rate",
            "µs",
            "Each at half of its own rate, in even steps; from when a request was due to its answer.",
            middle,
        ),
        figure(
            "p99 latency at half of the highest rate",
            "µs",
            "The same; one in a hundred takes longer.",
            slowest,
        ),
    ])
}

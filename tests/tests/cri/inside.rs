//! Looking into a container that runs: programs beside its own, what it uses, and changing what it may use.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::tonic::Code;
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::client::code;
use wisp_tests::cri::api::LinuxContainerResources;
use wisp_tests::cri::container::Running;
use wisp_tests::cri::node::Node;
use wisp_tests::cri::pod::Pod;
use wisp_tests::image::Image;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, leaks, site};

use crate::network::{answered, fetch};

pub(crate) const CASES: &[Case] = cases![Pods:
    a_wasm_file_an_export_and_a_native_program_are_executed,
    an_exec_that_takes_too_long_is_ended,
    an_exec_of_what_is_not_there_says_so,
    figures_agree_with_the_control_group,
    figures_of_all_pods_are_answered,
    limits_go_up_and_down_while_the_guest_runs,
];

fn sleeping<'p, 'n>(pod: &'p Pod<'n>) -> Result<Running<'p, 'n>> {
    let container = pod.container(&["/rust-0.2.wasm", "sleep", "600"]).start()?;
    container.until("sleeping")?;
    Ok(container)
}

fn a_wasm_file_an_export_and_a_native_program_are_executed(node: &Node) -> Outcome {
    let add = r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;
    let image = Image::new("wisp.test/exec:1")
        .file("/add.wasm", wat::parse_str(add)?)
        .file_of("/main.wasm", site::guest("rust-0.1.wasm")?)
        .file_of("/native", site::guest("native")?);
    node.import(&image)?;
    let pod = node.pod().run()?;
    let container = pod.container(&["/main.wasm", "loop"]).image(image.name()).start()?;
    container.until("looping")?;
    ensure!(container.says(&["/main.wasm", "hello"])? == "hello from Rust, WASI 0.1\n");
    ensure!(container.says(&["/add.wasm#add", "2", "3"])? == "5\n");
    ensure!(container.says(&["/native", "hello"])? == "hello from Rust, native\n");
    for program in ["/main.wasm", "/native"] {
        let done = container.exec(&[program, "exit", "7"])?;
        ensure!(done.exit_code == 7, "{program}: {}", done.exit_code);
        let done = container.exec(&[program, "both"])?;
        ensure!(done.stdout == b"to stdout\n" && done.stderr == b"to stderr\n", "{program}: {done:?}");
    }
    Ok(())
}

fn an_exec_that_takes_too_long_is_ended(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = sleeping(&pod)?;
    let pids = || node.bed.client()?.pids(&container.id).context("asking for processes");
    let before = pids()?;
    for program in ["/rust-0.1.wasm", "/native"] {
        let answer = node.cri.exec_sync(&container.id, &[program, "loop"], 1);
        ensure!(code(&answer) == Code::DeadlineExceeded, "{program}: {answer:?}");
        eventually("the exec is gone", LIMIT, || Ok((pids()? == before).then_some(())))?;
    }
    Ok(())
}

fn an_exec_of_what_is_not_there_says_so(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = sleeping(&pod)?;
    for program in ["/none.wasm", "/none"] {
        let said = match node.cri.exec_sync(&container.id, &[program], 30) {
            Ok(answer) => anyhow::bail!("{program} was executed: {answer:?}"),
            Err(status) => status.message().to_owned(),
        };
        ensure!(said.contains(program), "{program} is not named: {said}");
    }
    Ok(())
}

/// The working set as a kubelet's own figures have it: usage without the files that could be dropped at once.
fn working_set(container: &Running<'_, '_>) -> Result<u64> {
    let number = |text: &str| text.trim().parse::<u64>().context("a number");
    let (usage, inactive) = if leaks::has_cgroup_v1() {
        ("memory.usage_in_bytes", "total_inactive_file ")
    } else {
        ("memory.current", "inactive_file ")
    };
    let stat = container.cgroup_file("memory", "memory.stat")?;
    let inactive = stat.lines().find_map(|line| line.strip_prefix(inactive)).context("no inactive files")?;
    Ok(number(&container.cgroup_file("memory", usage)?)?.saturating_sub(number(inactive)?))
}

/// Nanoseconds of processor time.
fn processor_time(container: &Running<'_, '_>) -> Result<u64> {
    if leaks::has_cgroup_v1() {
        return Ok(container.cgroup_file("cpuacct", "cpuacct.usage")?.trim().parse()?);
    }
    let stat = container.cgroup_file("cpu", "cpu.stat")?;
    let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("no usage")?;
    Ok(usage.parse::<u64>()? * 1000)
}

fn figures_agree_with_the_control_group(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = pod.container(&["/rust-0.1.wasm", "loop"]).memory(256).start()?;
    container.until("looping")?;
    let before = processor_time(&container)?;
    let stats = node.cri.container_stats(&container.id)?;
    let after = processor_time(&container)?;
    let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).context("no processor time")?.value;
    ensure!((before..=after).contains(&cpu), "{cpu} is not within {before}..={after}");
    let memory = stats.memory.and_then(|memory| memory.working_set_bytes).context("no working set")?.value;
    let wanted = working_set(&container)?;
    ensure!(memory.abs_diff(wanted) < 2 << 20, "a working set of {memory} and not {wanted}");

    let pod_stats = node.cri.pod_stats(&pod.id)?.linux.context("no figures of the pod")?;
    let listed = pod_stats
        .containers
        .iter()
        .any(|one| one.attributes.as_ref().is_some_and(|attributes| attributes.id == container.id));
    ensure!(listed, "the container is not among the pod's");
    let cpu = pod_stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).context("no processor time")?.value;
    ensure!(cpu >= before, "the pod's processor time {cpu} is less than its container's {before}");
    let memory = pod_stats.memory.and_then(|memory| memory.working_set_bytes).context("no working set")?;
    ensure!(memory.value + (2 << 20) > wanted, "the pod's working set {} and not {wanted}", memory.value);
    let network = pod_stats.network.and_then(|network| network.default_interface).context("no network")?;
    ensure!(network.name == "eth0", "{network:?}");
    Ok(())
}

fn figures_of_all_pods_are_answered(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = sleeping(&pod)?;
    let ended = pod.container(&["/rust-0.1.wasm", "hello"]).start()?;
    ended.ended()?.code(0, "Completed")?;
    // Other cases make and remove pods meanwhile, and one that goes while it is asked fails the whole answer.
    eventually("the container's figures", LIMIT, || {
        let all = node.cri.all_container_stats().unwrap_or_default();
        let ours = all
            .iter()
            .find(|stats| stats.attributes.as_ref().is_some_and(|attributes| attributes.id == container.id));
        Ok(ours.and_then(|stats| stats.memory.as_ref()).is_some().then_some(()))
    })?;
    eventually("the pod's figures", LIMIT, || {
        let all = node.cri.all_pod_stats().unwrap_or_default();
        let ours = all
            .iter()
            .find(|stats| stats.attributes.as_ref().is_some_and(|attributes| attributes.id == pod.id));
        Ok(ours.and_then(|stats| stats.linux.as_ref()?.memory.as_ref()).is_some().then_some(()))
    })
}

fn memory(mebibytes: i64) -> LinuxContainerResources {
    LinuxContainerResources { memory_limit_in_bytes: mebibytes << 20, ..Default::default() }
}

fn limits_go_up_and_down_while_the_guest_runs(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let service = pod.container(&["/http-0.2.wasm"]).memory(512).start()?;
    let url = format!("http://{}:8080", pod.ip()?);
    answered(&service, &format!("{url}/hello"))?;
    let allocates = || fetch(&node.bed, &format!("{url}/alloc?100")).is_ok();
    let limit = || -> Result<i64> {
        let name = if leaks::has_cgroup_v1() { "memory.limit_in_bytes" } else { "memory.max" };
        Ok(service.cgroup_file("memory", name)?.trim().parse()?)
    };
    ensure!(allocates(), "100 MiB of 512 were not given");
    // The kernel refuses a limit below what is in use, and the instance of an answered request is there for a moment yet.
    eventually("the lowered limit", LIMIT, || Ok(node.cri.update(&service.id, memory(96)).ok()))?;
    ensure!(limit()? == 96 << 20, "the limit is {}", limit()?);
    ensure!(!allocates(), "100 MiB of 96 were given");
    node.cri.update(&service.id, memory(512))?;
    ensure!(limit()? == 512 << 20, "the limit is {}", limit()?);
    ensure!(allocates(), "100 MiB of 512 were not given again");
    let cpu = LinuxContainerResources { cpu_period: 100_000, cpu_quota: 50_000, ..Default::default() };
    node.cri.update(&service.id, cpu)?;
    let quota = if leaks::has_cgroup_v1() { "cpu.cfs_quota_us" } else { "cpu.max" };
    ensure!(service.cgroup_file("cpu", quota)?.starts_with("50000"));
    ensure!(limit()? == 512 << 20, "a change of processor time changed the memory");
    ensure!(service.stop(60)? < Duration::from_secs(30));
    Ok(())
}

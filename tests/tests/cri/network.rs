//! The network of a pod: its address, its ports, its names, and its neighbours.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::{Bed, eventually};
use wisp_tests::cri::api::{ContainerState, DnsConfig, NamespaceMode};
use wisp_tests::cri::container::Running;
use wisp_tests::cri::node::{Node, Variant};
use wisp_tests::cri::pod::{Pod, PodSpec};
use wisp_tests::memo::Memo;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, net, process};

pub(crate) const CASES: &[Case] = cases![Pods:
    a_service_is_reached_at_the_address_of_its_pod,
    a_port_of_the_node_leads_to_the_pod,
    names_are_looked_up_where_the_pod_says,
    a_pod_has_the_files_that_a_pod_has_under_runc,
    hosts_that_a_kubelet_gives_are_the_pods,
    neighbours_meet_on_the_loopback,
    a_port_below_1024_needs_no_root,
    everyone_may_ping,
    sysctls_that_are_asked_for_are_set,
    sysctls_of_the_node_are_refused,
];

pub(crate) const IN_NODES_NETWORK: &[Case] = cases![PodsWhere where Variant::has_nodes_network:
    a_pod_in_the_nodes_network_is_in_the_nodes_network,
    a_pod_in_the_nodes_network_has_the_nodes_files,
    sysctls_of_the_nodes_network_are_refused,
];

/// Gets a page from the node.
pub(crate) fn fetch(bed: &Bed, url: &str) -> Result<String> {
    let mut curl = bed.space.command("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "20", url]);
    process::run(&mut curl, Duration::from_secs(30))?.success()
}

/// Waits until a service answers, and gets a page from it.
pub(crate) fn answered(service: &Running<'_, '_>, url: &str) -> Result<String> {
    let bed = &service.pod.node.bed;
    // The first start of a program compiles it, but before the service is started.
    let mut last = String::new();
    eventually("an answer", Duration::from_secs(60), || match fetch(bed, url) {
        Ok(page) => Ok(Some(page)),
        Err(error) => {
            last = format!("{error:#}");
            let ended = service.status()?.state() == ContainerState::ContainerExited;
            ensure!(!ended, "it ended");
            Ok(None)
        }
    })
    .with_context(|| format!("{url}: {last}; {:?}", service.printed()))
}

fn a_service_is_reached_at_the_address_of_its_pod(node: &Node) -> Outcome {
    for program in ["/http-0.2.wasm", "/http-0.3.wasm"] {
        let pod = node.pod().run()?;
        let service = pod.container(&[program]).start()?;
        let page = answered(&service, &format!("http://{}:8080/hello", pod.ip()?))?;
        ensure!(page.starts_with("hello from Rust, wasi:http 0."), "{page:?}");
        let took = service.stop(60)?;
        service.ended()?.code(0, "Completed")?;
        ensure!(took < Duration::from_secs(30), "it took {took:?}");
    }
    Ok(())
}

fn a_port_of_the_node_leads_to_the_pod(node: &Node) -> Outcome {
    // The two kinds of pods of a node run at one time.
    let port = if node.variant.shim() { 18081 } else { 18082 };
    let pod = node.pod().port(port, 8080).run()?;
    let service = pod.container(&["/http-0.2.wasm"]).start()?;
    let page = answered(&service, &format!("http://10.88.0.1:{port}/hello"))?;
    ensure!(page.starts_with("hello"), "{page:?}");
    pod.stop()?;
    ensure!(fetch(&node.bed, &format!("http://10.88.0.1:{port}/hello")).is_err(), "the port is still open");
    Ok(())
}

/// A name server on the node that gives every name the address 10.1.2.3.
fn name_server(bed: &Arc<Bed>) -> Result<()> {
    static SERVERS: Memo<()> = Memo::new();
    SERVERS.get(&bed.name, || net::serve_datagrams(&bed.space, "0.0.0.0:7007", "0.0.0.0:53"))
}

fn names_are_looked_up_where_the_pod_says(node: &Node) -> Outcome {
    name_server(&node.bed)?;
    let dns = DnsConfig {
        servers: vec!["10.88.0.1".into()],
        searches: vec!["tests.svc.cluster.local".into(), "svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
    };
    let pod = node.pod().with(|config| config.dns_config = Some(dns)).run()?;
    let wanted = "search tests.svc.cluster.local svc.cluster.local\nnameserver 10.88.0.1\noptions ndots:5\n";
    for program in super::life::PROGRAMS {
        let cat = pod.container(&[program, "cat", "/etc/resolv.conf"]).run()?.code(0, "Completed")?;
        cat.stdout(wanted)?;
    }
    for program in ["/rust-0.2.wasm", "/native"] {
        let found = pod.container(&[program, "resolve", "some.name.example"]).run()?.code(0, "Completed")?;
        found.stdout("10.1.2.3\n")?;
    }
    Ok(())
}

/// The files that CRI makes for a pod, as a program in it reads them.
fn files(pod: &Pod<'_>, program: &str) -> Result<Vec<String>> {
    let files = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let read =
        |file: &&str| Ok(pod.container(&[program, "cat", file]).run()?.code(0, "Completed")?.printed());
    files.iter().map(read).collect()
}

/// The files of a pod are those of the same pod under runc.
fn files_as_under_runc(node: &Node, change: fn(PodSpec<'_>) -> PodSpec<'_>) -> Outcome {
    let runc = node.under_runc()?;
    let read = |node: &Node, program: &str| {
        let pod = change(node.pod().with(|config| config.hostname = "a-name".into()));
        files(&pod.with(|config| config.dns_config = None).run()?, program)
    };
    let wanted = read(&runc, "/native")?;
    for program in ["/rust-0.2.wasm", "/native"] {
        let found = read(node, program)?;
        ensure!(found == wanted, "{program}: {found:?} and not {wanted:?}");
    }
    Ok(())
}

fn a_pod_has_the_files_that_a_pod_has_under_runc(node: &Node) -> Outcome {
    files_as_under_runc(node, |pod| pod)
}

fn a_pod_in_the_nodes_network_has_the_nodes_files(node: &Node) -> Outcome {
    files_as_under_runc(node, |pod| pod.in_nodes_network())
}

fn hosts_that_a_kubelet_gives_are_the_pods(node: &Node) -> Outcome {
    let hosts = node.bed.folder.join(node.bed.id("hosts"));
    fs::write(&hosts, "10.9.8.7 some.alias\n")?;
    let pod = node.pod().run()?;
    for program in ["/rust-0.2.wasm", "/native"] {
        for (args, wanted) in
            [(["cat", "/etc/hosts"], "10.9.8.7 some.alias\n"), (["resolve", "some.alias"], "10.9.8.7\n")]
        {
            let spec = pod.container(&[&[program], &args[..]].concat()).mount(&hosts, "/etc/hosts", false);
            spec.run()?.code(0, "Completed")?.stdout(wanted)?;
        }
    }
    Ok(())
}

fn neighbours_meet_on_the_loopback(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for (server, client) in [("/native", "/rust-0.2.wasm"), ("/rust-0.2.wasm", "/native")] {
        let listening = pod.container(&[server, "listen", "127.0.0.1:7100"]).start()?;
        listening.until("listening")?;
        let echoed = pod.container(&[client, "connect", "127.0.0.1:7100", "a word"]);
        // The server gives back what came once the client has closed its side, which it does not: it ends.
        let echoed = echoed.start()?;
        echoed.until("connected")?;
        listening.stop(0)?;
        echoed.ended()?;
    }
    Ok(())
}

fn a_port_below_1024_needs_no_root(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for program in ["/rust-0.2.wasm", "/native"] {
        let server = pod.container(&[program, "listen", "0.0.0.0:80"]).security(|security| {
            security.run_as_user = Some(wisp_tests::cri::api::Int64Value { value: 1000 });
        });
        let server = server.start()?;
        server.until("listening")?;
        server.stop(0)?;
    }
    Ok(())
}

fn everyone_may_ping(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let cat = pod.container(&["/native", "cat", "/proc/sys/net/ipv4/ping_group_range"]);
    cat.run()?.code(0, "Completed")?.stdout("0\t2147483647\n")?;
    Ok(())
}

fn sysctls_that_are_asked_for_are_set(node: &Node) -> Outcome {
    let asked = [
        ("net.core.somaxconn", "1234"),
        ("net.ipv4.ip_unprivileged_port_start", "1024"),
        ("kernel.shm_rmid_forced", "1"),
    ];
    let mut pod = node.pod();
    for (name, value) in asked {
        pod = pod.sysctl(name, value);
    }
    let pod = pod.run()?;
    for (name, value) in asked {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        let cat = pod.container(&["/native", "cat", &file]).run()?.code(0, "Completed")?;
        cat.stdout(&format!("{value}\n"))?;
    }
    Ok(())
}

fn refused(pod: PodSpec<'_>, sysctl: &str) -> Outcome {
    let said = pod.sysctl(sysctl, "1").refused()?;
    ensure!(said.contains(sysctl), "{sysctl} is not named: {said}");
    Ok(())
}

fn sysctls_of_the_node_are_refused(node: &Node) -> Outcome {
    refused(node.pod(), "kernel.panic")?;
    let in_nodes_ipc = node.pod().namespaces(|namespaces| namespaces.ipc = NamespaceMode::Node.into());
    refused(in_nodes_ipc, "kernel.shm_rmid_forced")
}

fn sysctls_of_the_nodes_network_are_refused(node: &Node) -> Outcome {
    refused(node.pod().in_nodes_network(), "net.core.somaxconn")
}

fn a_pod_in_the_nodes_network_is_in_the_nodes_network(node: &Node) -> Outcome {
    let port = if node.variant.shim() { "18091" } else { "18092" };
    let pod = node.pod().in_nodes_network().run()?;
    let service = pod.container(&["/http-0.2.wasm"]).env("PORT", port).start()?;
    let page = answered(&service, &format!("http://127.0.0.1:{port}/hello"))?;
    ensure!(page.starts_with("hello"), "{page:?}");
    for namespace in ["net", "uts"] {
        let link = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        ensure!(
            link(service.pid()?)? == link(node.bed.pid()?)?,
            "the {namespace} namespace is not the node's"
        );
    }
    Ok(())
}

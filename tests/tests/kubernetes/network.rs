//! Services, ports and names.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{BOTH_SANDBOXES, Case, EVERYWHERE, NODES};
use wisp_tests::process;
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, EVERYWHERE;
        a_pod_has_its_names_and_name_servers,
        a_pod_may_be_called_by_a_longer_name,
        services_are_in_the_environment_where_the_pod_wants_them,
    ],
    kube_cases![Pods, NODES;
        a_guest_reaches_a_guest_by_its_service,
        a_native_proxy_stands_before_a_service,
    ],
    // User Mode Linux has no NAT, which is how a port of a node leads anywhere.
    kube_cases![Node, BOTH_SANDBOXES; a_port_of_the_node_leads_to_a_pod],
    kube_cases![Node, EVERYWHERE; a_service_answers_in_both_families],
];

fn a_pod_has_its_names_and_name_servers(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("named", &["/rust-0.2.wasm", "sleep", "3600"]);
    let aliases = json!([{"ip": "10.9.8.7", "hostnames": ["in.hosts"]}]);
    let pod =
        pod.spec("hostname", json!("called")).spec("hostAliases", aliases).spec("dnsPolicy", json!("None"));
    scene.ready(&pod.spec("dnsConfig", json!({"nameservers": ["10.1.2.3"], "searches": ["found.test"]})))?;
    let resolved = scene.exec("named", &["/rust-0.2.wasm", "resolve", "in.hosts"])?;
    ensure!(resolved == "10.9.8.7\n", "{resolved}");
    let servers = scene.exec("named", &["/rust-0.2.wasm", "cat", "/etc/resolv.conf"])?;
    ensure!(servers.contains("nameserver 10.1.2.3") && servers.contains("search found.test"), "{servers}");
    let name = scene.exec("named", &["/bin/cat", "/etc/hostname"])?;
    ensure!(name.trim() == "called", "{name}");
    Ok(())
}

fn a_pod_may_be_called_by_a_longer_name(scene: &Scene<'_>) -> Outcome {
    let idle = scene.pod("whole", &["/rust-0.2.wasm", "sleep", "3600"]);
    let whole = idle.clone().spec("hostname", json!("called")).spec("subdomain", json!("below"));
    let whole = whole.spec("setHostnameAsFQDN", json!(true));
    let other = idle.called("other").spec("hostnameOverride", json!("quite.another.name"));
    let domain = format!("called.below.{}.svc.cluster.local", scene.kubectl.namespace);
    for (pod, name) in [(whole, &*domain), (other, "quite.another.name")] {
        scene.ready(&pod)?;
        for command in [&["/bin/busybox", "hostname"][..], &["/bin/cat", "/etc/hostname"]] {
            let seen = scene.exec(pod.name(), command)?;
            ensure!(seen.trim() == name, "{}: {seen}", pod.name());
        }
    }
    Ok(())
}

fn services_are_in_the_environment_where_the_pod_wants_them(scene: &Scene<'_>) -> Outcome {
    scene.kubectl.run(&["create", "service", "clusterip", "linked", "--tcp=80:8080"])?;
    let service = scene.kubectl.get(&["service", "linked"])?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?;
    let links =
        [format!("LINKED_SERVICE_HOST={address}\n"), format!("LINKED_PORT_80_TCP=tcp://{address}:80\n")];
    // kubelet may hear of the Service after the pod: a native program is started again until it has.
    let native = scene.native("native", &["/bin/sh", "-c", "test \"$LINKED_SERVICE_HOST\""]);
    scene.ended(&native.spec("restartPolicy", json!("OnFailure")))?;
    for (name, wanted) in [("with", true), ("without", false)] {
        let pod = scene.pod(name, &["/rust-0.2.wasm", "env"]).spec("enableServiceLinks", json!(wanted));
        scene.ended(&pod)?;
        let seen = scene.logs(name)?;
        ensure!(links.iter().all(|link| seen.contains(link) == wanted), "{name}: {seen}");
        // That of the API server is there for all.
        ensure!(seen.contains("KUBERNETES_SERVICE_HOST="), "{name}: {seen}");
    }
    Ok(())
}

fn a_guest_reaches_a_guest_by_its_service(scene: &Scene<'_>) -> Outcome {
    scene.ready(&scene.service("serves").label("app", "serves"))?;
    scene.kubectl.run(&["expose", "pod", "serves", "--port=80", "--target-port=8080"])?;
    let service = scene.kubectl.get(&["service", "serves"])?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?;
    ask(scene, "asks", SocketAddr::new(address.parse()?, 80))?;
    is_answered(scene, "asks")
}

/// As the sidecar of a mesh does, which starts before the service and ends after it.
fn a_native_proxy_stands_before_a_service(scene: &Scene<'_>) -> Outcome {
    let forward = ["/bin/nc", "-ll", "-p", "15001", "-e", "/bin/nc", "127.0.0.1", "8080"];
    let mut proxy = scene.container("proxy", &forward);
    proxy["restartPolicy"] = json!("Always");
    let probe =
        json!({"httpGet": {"path": "/hello", "port": 15001}, "periodSeconds": 1, "failureThreshold": 60});
    let pod = scene.service("meshed").main("readinessProbe", probe).first(proxy).label("app", "meshed");
    // Process 1 of its namespace has no ear for SIGTERM.
    scene.ready(&pod.spec("terminationGracePeriodSeconds", json!(1)))?;
    scene.kubectl.run(&["expose", "pod", "meshed", "--port=80", "--target-port=15001"])?;
    let service = scene.kubectl.get(&["service", "meshed"])?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?;
    ask(scene, "asks", SocketAddr::new(address.parse()?, 80))?;
    is_answered(scene, "asks")
}

/// Creates a pod whose guest asks for a page.
fn ask(scene: &Scene<'_>, name: &str, address: SocketAddr) -> Outcome {
    // kube-proxy needs a moment, and nothing tells that it is through: a pod that fails is started again.
    let fetch = scene.pod(name, &["/rust-0.2.wasm", "fetch", &format!("http://{address}/hello")]);
    scene.create(&fetch.spec("restartPolicy", json!("OnFailure")))
}

/// Waits until that pod has its answer.
fn is_answered(scene: &Scene<'_>, name: &str) -> Outcome {
    scene.until(name, "answered", |pod| pod["status"]["phase"] == "Succeeded")?;
    let seen = scene.logs(name)?;
    ensure!(seen.starts_with("200\nhello from"), "{seen}");
    Ok(())
}

fn a_port_of_the_node_leads_to_a_pod(scene: &Scene<'_>) -> Outcome {
    let port = if scene.place.name() == "pause" { 18081 } else { 18080 };
    let ports = json!([{"containerPort": 8080, "hostPort": port}]);
    scene.ready(&scene.service("serves").main("ports", ports))?;
    let address = format!("http://{}:{port}/hello", wisp_tests::kube::cluster::ADDRESS);
    let mut curl = scene.kubectl.beside("curl");
    let seen = process::run(curl.args(["--silent", "--show-error", &address]), wisp_tests::kube::PATIENCE)?
        .success()?;
    ensure!(seen.starts_with("hello"), "{seen}");
    Ok(())
}

/// The addresses of a list, which must be one of each family.
fn of_both_families(list: &Value, address: impl Fn(&Value) -> &Value) -> Result<[IpAddr; 2]> {
    let all = list.as_array().into_iter().flatten();
    let all: Vec<IpAddr> =
        all.filter_map(|one| address(one).as_str()).map(str::parse).collect::<Result<_, _>>()?;
    match all[..] {
        [first, second] if first.is_ipv4() != second.is_ipv4() => Ok([first, second]),
        _ => bail!("an address of each family was expected: {list}"),
    }
}

fn a_service_answers_in_both_families(scene: &Scene<'_>) -> Outcome {
    let pod = scene.ready(&scene.service("serves").label("app", "serves"))?;
    scene.kubectl.apply(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "serves"},
        "spec": {
            "selector": {"app": "serves"},
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }))?;
    let service = scene.kubectl.get(&["service", "serves"])?;
    let pods = of_both_families(&pod["status"]["podIPs"], |one| &one["ip"])?;
    let services = of_both_families(&service["spec"]["clusterIPs"], |one| one)?;
    let hosts = scene.exec("serves", &["/bin/cat", "/etc/hosts"])?;
    for address in pods {
        ensure!(hosts.contains(&format!("{address}\t")), "{address} is not in /etc/hosts: {hosts}");
    }
    let asked = pods.map(|address| (address, 8080)).into_iter().chain(services.map(|address| (address, 80)));
    let asked: Vec<SocketAddr> = asked.map(Into::into).collect();
    let name = |number| format!("asks-{number}");
    for (number, address) in asked.iter().enumerate() {
        ask(scene, &name(number), *address)?;
    }
    (0..asked.len()).try_for_each(|number| is_answered(scene, &name(number)))
}

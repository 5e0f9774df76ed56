//! Who a container runs as, and what it may do.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wisp_tests::cri::api::security_profile::ProfileType;
use wisp_tests::cri::api::{Capability, Int64Value, SecurityProfile};
use wisp_tests::cri::container::ContainerSpec;
use wisp_tests::cri::node::Node;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Pods:
    a_container_runs_as_the_user_and_groups_of_its_security_context,
    a_read_only_root_is_not_written_but_its_volumes_are,
    dropped_capabilities_are_gone,
    privileges_are_not_regained,
    seccomp_profiles_are_applied,
    masked_and_read_only_paths_are_so,
];

/// A container that waits, and a line of its `/proc/<pid>/status` by name.
fn status_of(spec: ContainerSpec<'_, '_>, names: &[&str]) -> Result<Vec<String>> {
    let container = spec.start()?;
    container.until("sleeping")?;
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid()?))?;
    container.stop(0)?;
    let line = |name: &&str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        Ok(line.with_context(|| format!("no {name}"))?.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    names.iter().map(line).collect()
}

const WAITING: [[&str; 3]; 2] = [["/rust-0.2.wasm", "sleep", "600"], ["/native", "sleep", "600"]];

fn a_container_runs_as_the_user_and_groups_of_its_security_context(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for args in &WAITING {
        let spec = pod.container(args).security(|security| {
            security.run_as_user = Some(Int64Value { value: 1001 });
            security.run_as_group = Some(Int64Value { value: 1002 });
            security.supplemental_groups = vec![3000, 3001];
        });
        let status = status_of(spec, &["Uid", "Gid", "Groups"])?;
        ensure!(status[0] == "1001 1001 1001 1001", "{args:?}: users {}", status[0]);
        ensure!(status[1] == "1002 1002 1002 1002", "{args:?}: groups {}", status[1]);
        // The group itself is among them or not, as containerd's version has it.
        let others: Vec<_> = status[2].split(' ').filter(|&group| group != "1002").collect();
        ensure!(others == ["3000", "3001"], "{args:?}: further groups {}", status[2]);
    }
    Ok(())
}

fn a_read_only_root_is_not_written_but_its_volumes_are(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let folder = node.bed.folder.join(node.bed.id("volume"));
    fs::create_dir_all(&folder)?;
    for program in super::life::PROGRAMS {
        let write = |path: &str| {
            let spec = pod.container(&[program, "write", path, program]);
            spec.mount(&folder, "/volume", false).security(|security| security.readonly_rootfs = true)
        };
        write("/tmp/file").run()?.code(1, "Error")?;
        write("/volume/file").run()?.code(0, "Completed")?;
        ensure!(fs::read_to_string(folder.join("file"))? == program);
        write("/dev/shm/file").run()?.code(0, "Completed")?;
    }
    Ok(())
}

fn dropped_capabilities_are_gone(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for args in &WAITING {
        let capabilities = |drop: &[&str], add: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            let capabilities = Capability {
                add_capabilities: words(add),
                drop_capabilities: words(drop),
                ..Default::default()
            };
            let spec = pod.container(args).security(|security| security.capabilities = Some(capabilities));
            Ok::<_, anyhow::Error>(u64::from_str_radix(&status_of(spec, &["CapEff"])?[0], 16)?)
        };
        ensure!(capabilities(&["ALL"], &[])? == 0, "{args:?} has capabilities after all were dropped");
        // CAP_NET_BIND_SERVICE is of use to a guest too.
        ensure!(
            capabilities(&["ALL"], &["NET_BIND_SERVICE"])? == 1 << 10,
            "{args:?} lacks the one that was added"
        );
    }
    Ok(())
}

fn privileges_are_not_regained(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for args in &WAITING {
        let spec = pod.container(args).security(|security| security.no_new_privs = true);
        ensure!(status_of(spec, &["NoNewPrivs"])? == ["1"], "{args:?}");
    }
    Ok(())
}

fn seccomp_profiles_are_applied(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let profile = node.bed.folder.join(node.bed.id("profile"));
    let no_sockets = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    });
    fs::write(&profile, no_sockets.to_string())?;
    for program in ["/rust-0.2.wasm", "/native"] {
        let connect = |kind: ProfileType, path: &str| {
            let seccomp = SecurityProfile { profile_type: kind.into(), localhost_ref: path.into() };
            let spec = pod.container(&[program, "connect", "127.0.0.1:9", "x"]);
            spec.security(|security| security.seccomp = Some(seccomp)).run()?.code(1, "Error")
        };
        for kind in [ProfileType::RuntimeDefault, ProfileType::Unconfined] {
            connect(kind, "")?.stderr_has("refused")?;
        }
        let denied = connect(ProfileType::Localhost, &profile.display().to_string())?;
        ensure!(!denied.printed().contains("refused"), "{program} made a socket: {}", denied.printed());
    }
    // A profile is in force in the process, not only in the specification.
    let seccomp = SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), ..Default::default() };
    for args in &WAITING {
        let spec = pod.container(args).security(|security| security.seccomp = Some(seccomp.clone()));
        ensure!(status_of(spec, &["Seccomp"])? == ["2"], "{args:?}");
    }
    Ok(())
}

fn masked_and_read_only_paths_are_so(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for program in super::life::PROGRAMS {
        let spec = |args: &[&str]| {
            pod.container(args).security(|security| {
                security.masked_paths = vec!["/data/greeting.txt".into()];
                security.readonly_paths = vec!["/tmp".into()];
            })
        };
        spec(&[program, "cat", "/data/greeting.txt"]).run()?.stdout("")?;
        spec(&[program, "write", "/tmp/file", "x"]).run()?.code(1, "Error")?;
    }
    Ok(())
}

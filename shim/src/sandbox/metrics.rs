//! The figures of a pod, which are those of its cgroup: the parent of its containers' cgroups. Making it is kubelet's work.

use containerd_shim_protos::cgroups::metrics::Metrics as V1;
use containerd_shim_protos::cgroups_v2::metrics::Metrics as V2;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use tracing::debug;

use crate::cgroup::Cgroup;
use crate::stats;

/// The figures of the pod whose cgroup containerd names in this way. There are always some: one pod without would leave the
/// node's whole list without.
pub(super) fn of(cgroup_parent: &str) -> Any {
    let cgroup = Cgroup::named(&path(cgroup_parent));
    match stats::of(&cgroup) {
        Ok(stats) => stats,
        Err(error) => {
            debug!(cgroup_parent, %error, "the pod has no cgroup that could be read");
            nothing(&cgroup)
        }
    }
}

/// All figures zero.
fn nothing(cgroup: &Cgroup) -> Any {
    let (type_url, value) = match cgroup {
        Cgroup::V1(_) => {
            let mut metrics = V1::new();
            metrics.cpu.mut_or_insert_default();
            metrics.memory.mut_or_insert_default();
            ("io.containerd.cgroups.v1.Metrics", metrics.write_to_bytes())
        }
        Cgroup::V2(_) => {
            let mut metrics = V2::new();
            metrics.cpu.mut_or_insert_default();
            metrics.memory.mut_or_insert_default();
            ("io.containerd.cgroups.v2.Metrics", metrics.write_to_bytes())
        }
    };
    Any { type_url: type_url.to_owned(), value: value.unwrap_or_default(), ..Any::default() }
}

/// The path of a cgroup: a slice's is made of its ancestors, each of which is a prefix of its name (systemd.slice(5)).
fn path(parent: &str) -> String {
    let Some(name) = parent.strip_suffix(".slice").filter(|name| !name.contains('/')) else {
        return parent.trim_start_matches('/').to_owned();
    };
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    let slices: Vec<_> = ends.map(|end| format!("{}.slice", &name[..end])).collect();
    slices.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_below_the_slices_that_its_name_begins_with() {
        assert_eq!(path("/kubepods/burstable/pod1"), "kubepods/burstable/pod1");
        assert_eq!(
            path("kubepods-burstable-pod1_2.slice"),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"
        );
        assert_eq!(path("system.slice"), "system.slice");
        assert_eq!(path(""), "");
    }

    #[test]
    fn a_pod_without_a_cgroup_has_figures() {
        for parent in ["", "/nonexistent", "nonexistent-pod.slice"] {
            let figures = of(parent);
            assert!(figures.type_url.starts_with("io.containerd.cgroups.v"), "{}", figures.type_url);
            assert!(!figures.value.is_empty());
        }
    }
}

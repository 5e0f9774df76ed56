//! What a control group counts, out of the messages in which shims tell it to containerd
//! (`github.com/containerd/cgroups`, `stats`): the few fields that are shown, for both versions of control groups.

use containerd_client::types::Metric;
use prost::Message;

/// A task's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    /// Processor time since the start, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// Memory without files that can be dropped, in bytes.
    pub(super) memory_bytes: u64,
}

impl Figures {
    /// Reads what containerd answered; `None` for a message of another kind.
    pub(super) fn of(metric: &Metric) -> Option<Self> {
        let data = metric.data.as_ref()?;
        // Some versions put a host before the name.
        if data.type_url.ends_with("io.containerd.cgroups.v1.Metrics") {
            Some(V1::decode(data.value.as_slice()).ok()?.figures())
        } else if data.type_url.ends_with("io.containerd.cgroups.v2.Metrics") {
            Some(V2::decode(data.value.as_slice()).ok()?.figures())
        } else {
            None
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct V1 {
    #[prost(message, tag = "3")]
    cpu: Option<V1Cpu>,
    #[prost(message, tag = "4")]
    memory: Option<V1Memory>,
}

#[derive(Clone, PartialEq, Message)]
struct V1Cpu {
    #[prost(message, tag = "1")]
    usage: Option<V1CpuUsage>,
}

#[derive(Clone, PartialEq, Message)]
struct V1CpuUsage {
    #[prost(uint64, tag = "1")]
    total: u64,
}

#[derive(Clone, PartialEq, Message)]
struct V1Memory {
    #[prost(uint64, tag = "30")]
    total_inactive_file: u64,
    #[prost(message, tag = "33")]
    usage: Option<V1MemoryEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct V1MemoryEntry {
    #[prost(uint64, tag = "2")]
    usage: u64,
}

impl V1 {
    fn figures(self) -> Figures {
        let memory = self.memory.unwrap_or_default();
        Figures {
            cpu_ns: self.cpu.unwrap_or_default().usage.unwrap_or_default().total,
            memory_bytes: memory.usage.unwrap_or_default().usage.saturating_sub(memory.total_inactive_file),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct V2 {
    #[prost(message, tag = "2")]
    cpu: Option<V2Cpu>,
    #[prost(message, tag = "4")]
    memory: Option<V2Memory>,
}

#[derive(Clone, PartialEq, Message)]
struct V2Cpu {
    #[prost(uint64, tag = "1")]
    usage_usec: u64,
}

#[derive(Clone, PartialEq, Message)]
struct V2Memory {
    #[prost(uint64, tag = "13")]
    inactive_file: u64,
    #[prost(uint64, tag = "32")]
    usage: u64,
}

impl V2 {
    fn figures(self) -> Figures {
        let memory = self.memory.unwrap_or_default();
        Figures {
            cpu_ns: self.cpu.unwrap_or_default().usage_usec.saturating_mul(1000),
            memory_bytes: memory.usage.saturating_sub(memory.inactive_file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(version: &str, value: Vec<u8>) -> Metric {
        let type_url = format!("io.containerd.cgroups.{version}.Metrics");
        Metric { data: Some(prost_types::Any { type_url, value }), ..Metric::default() }
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let v1 = V1 {
            cpu: Some(V1Cpu { usage: Some(V1CpuUsage { total: 7000 }) }),
            memory: Some(V1Memory { total_inactive_file: 10, usage: Some(V1MemoryEntry { usage: 30 }) }),
        };
        let v2 = V2 {
            cpu: Some(V2Cpu { usage_usec: 7 }),
            memory: Some(V2Memory { inactive_file: 10, usage: 30 }),
        };
        let expected = Some(Figures { cpu_ns: 7000, memory_bytes: 20 });
        assert_eq!(Figures::of(&metric("v1", v1.encode_to_vec())), expected);
        assert_eq!(Figures::of(&metric("v2", v2.encode_to_vec())), expected);
        assert_eq!(Figures::of(&metric("v3", v2.encode_to_vec())), None);
    }
}

//! A cgroup's figures in the types that containerd knows, filled as its own runc shim fills them. A file that is not
//! there (a controller that the node does not have) leaves its fields at zero.

mod v1;
mod v2;

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::cgroup::Cgroup;

/// The figures of a cgroup, in containerd's own types.
///
/// # Errors
/// It is gone.
pub(crate) fn of(cgroup: &Cgroup) -> io::Result<Any> {
    let (type_url, value) = match cgroup {
        Cgroup::V1(folders) => ("io.containerd.cgroups.v1.Metrics", v1::read(folders)?.write_to_bytes()),
        Cgroup::V2(folder) => ("io.containerd.cgroups.v2.Metrics", v2::read(folder)?.write_to_bytes()),
    };
    let value = value.map_err(io::Error::other)?;
    Ok(Any { type_url: type_url.to_owned(), value, ..Any::default() })
}

/// A file's lines of a name and a number each.
fn pairs(folder: &Path, file: &str) -> HashMap<String, u64> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), number(value)?))
    });
    pairs.collect()
}

/// A file's one number.
fn value(folder: &Path, file: &str) -> u64 {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    number(&text).unwrap_or_default()
}

/// A number, or `max`, which is the largest one.
fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        // Some counters of the kernel are seen below zero for a moment.
        text if text.starts_with('-') => Some(0),
        text => text.parse().ok(),
    }
}

/// The sizes of huge pages that the node has, as in file names: `2MB`, `1GB`.
fn huge_page_sizes() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut sizes: Vec<String> = names.filter_map(|name| huge_page_size(&name)).collect();
    sizes.sort();
    sizes
}

fn huge_page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        gigabytes if gigabytes >= 1 << 20 => format!("{}GB", gigabytes >> 20),
        megabytes if megabytes >= 1 << 10 => format!("{}MB", megabytes >> 10),
        kilobytes => format!("{kilobytes}KB"),
    })
}

/// Lines of RDMA limits and uses: a device, `hca_handle=`, `hca_object=`; told as device, handles and objects.
fn rdma(folder: &Path, file: &str) -> Vec<(String, u32, u32)> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let device = words.next()?.to_owned();
        let mut field = |name| {
            let value = words.next()?.strip_prefix(name)?;
            Some(number(value)?.try_into().unwrap_or(u32::MAX))
        };
        Some((device, field("hca_handle=")?, field("hca_object=")?))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_max_or_briefly_negative() {
        assert_eq!(number("max\n"), Some(u64::MAX));
        assert_eq!(number("-1\n"), Some(0));
        assert_eq!(number("17"), Some(17));
        assert_eq!(number("x"), None);
    }

    #[test]
    fn huge_pages_are_named_as_in_the_cgroups_files() {
        assert_eq!(huge_page_size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(huge_page_size("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(huge_page_size("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(huge_page_size("other"), None);
    }

    #[test]
    fn rdma_lines_name_a_device_and_two_limits() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("rdma.max"), "mlx4_0 hca_handle=2 hca_object=max\nbroken\n").unwrap();
        assert_eq!(rdma(dir.path(), "rdma.max"), [("mlx4_0".to_owned(), 2, u32::MAX)]);
    }
}

//! AppArmor profiles and SELinux labels: named before the process's exec, in force from it on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use anyhow::{Context, Result};
use oci_spec::runtime::Process;

/// The files that take the names, opened while the node's /proc can be reached.
#[derive(Debug, Default)]
pub struct Labels {
    writes: Vec<(File, String, String)>,
}

impl Labels {
    /// Opens what `process` needs; nothing where it names no profile.
    ///
    /// # Errors
    /// If the node's kernel does not have what is named: a container is not run without what its spec says.
    pub fn open(process: &Process) -> Result<Self> {
        let mut labels = Self::default();
        if let Some(profile) = process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty()) {
            let file = attribute("apparmor/exec").or_else(|_| attribute("exec"));
            labels.add(file, format!("exec {profile}"), format!("the AppArmor profile {profile:?}"))?;
        }
        if let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) {
            labels.add(attribute("exec"), label.to_owned(), format!("the SELinux label {label:?}"))?;
        }
        Ok(labels)
    }

    fn add(&mut self, file: io::Result<File>, value: String, what: String) -> Result<()> {
        let file = file.with_context(|| format!("{what} cannot be applied on this node"))?;
        self.writes.push((file, value, what));
        Ok(())
    }

    /// Names the labels for this thread's next exec.
    ///
    /// # Errors
    /// If the kernel does not know one.
    pub fn apply(&mut self) -> Result<()> {
        for (file, value, what) in &mut self.writes {
            file.write_all(value.as_bytes()).with_context(|| format!("{what} cannot be applied"))?;
        }
        Ok(())
    }
}

fn attribute(name: &str) -> io::Result<File> {
    OpenOptions::new().write(true).open(format!("/proc/thread-self/attr/{name}"))
}

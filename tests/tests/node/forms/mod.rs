//! containerd's configuration in the forms in which distributions of Kubernetes write it: the handler goes in, containerd starts
//! with it, and everything is as it was after an uninstall, to the byte.

use anyhow::{Context, Result, ensure};
use wisp_tests::machine::{self, CONFIG, Machine};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

use crate::kind;

pub(crate) const CASES: &[Case] = cases![Once:
    a_node_of_kind_gets_and_loses_the_handler,
    a_node_of_kubeadm_gets_and_loses_the_handler,
    a_node_of_eks_gets_and_loses_the_handler,
    a_node_of_aks_gets_and_loses_the_handler,
    a_node_of_gke_gets_and_loses_the_handler,
    a_node_of_k3s_gets_and_loses_the_handler,
    a_node_of_rke2_gets_and_loses_the_handler,
    a_node_of_debian_gets_and_loses_the_handler,
    a_node_without_a_file_gets_and_loses_the_handler,
    a_file_that_imports_others_gets_and_loses_the_handler,
];

/// Where the program is that renders templates.
const RENDERED: &str = "/var/k3s-rendered";

/// What containerd knows the handler by.
const HANDLER: &str = "runtime_type = \"io.containerd.wisp.v1\"";

/// A form, a version of containerd, and the file that is to change.
struct Form<'a> {
    version: &'static str,
    main: &'a str,
    files: Vec<(&'a str, &'a str)>,
    changes: &'a str,
    /// What the service manager does before each start of containerd.
    before_start: Option<String>,
}

impl<'a> Form<'a> {
    fn of(version: &'static str, text: &'a str) -> Self {
        let files = vec![(CONFIG, text), ("/etc/containerd/base.json", kind::BASE.1), kind::BASE];
        Self { version, main: CONFIG, files, changes: CONFIG, before_start: None }
    }

    fn changing(self, path: &'a str) -> Self {
        Self { changes: path, ..self }
    }

    /// Installs, installs again, uninstalls, and looks at everything.
    fn check(&self) -> Outcome {
        self.go().with_context(|| format!("on containerd {}, changing {}", self.version, self.changes))
    }

    fn go(&self) -> Outcome {
        let machine = Machine::new(self.version, self.main, &self.files)?;
        if let Some(script) = &self.before_start {
            std::fs::copy(site::k3s()?, machine.root.join(RENDERED.trim_start_matches('/')))?;
            machine::before_next_start(&machine, script)?;
        }
        machine.boot()?;
        let before = files(&machine)?;
        machine.install(&[])?.success()?;
        let text = machine.file(self.changes).context("the file that was to change is not there")?;
        ensure!(text.contains(HANDLER), "{text}");
        let dump = machine.dump()?;
        ensure!(dump.contains(HANDLER) && dump.contains("io.containerd.runc.v2"), "{dump}");
        let shim = dump.contains("sandboxer = \"shim\"");
        // 2.2 crashes with the first pod on the host's network that has the shim for a sandbox.
        ensure!(shim == (self.version == "2.4"), "the shim is the sandbox: {shim}");
        ensure!(dump.contains("disable_pause_image_pull = true") == (self.version == "2.4"));

        let (pid, once) = (machine.pid()?, files(&machine)?);
        let again = machine.install(&[])?.success()?;
        ensure!(again.contains("has the handler wisp already") && !again.contains("wrote"), "{again}");
        ensure!(machine.pid()? == pid && files(&machine)? == once, "a second install changed something");

        machine.install(&["--uninstall"])?.success()?;
        ensure!(files(&machine)? == before, "an uninstall left something else than there was");
        ensure!(!machine.dump()?.contains(HANDLER));
        Ok(())
    }
}

/// Every file that an install could touch.
fn files(machine: &Machine) -> Result<Vec<(std::path::PathBuf, Vec<u8>)>> {
    let mut files = machine.tree("/etc")?;
    files.extend(machine.tree("/var/lib/rancher/k3s/agent/etc")?);
    files.extend(machine.tree("/var/lib/rancher/rke2/agent/etc")?);
    files.extend(machine.tree("/var/lib/wisp")?);
    let installed = machine.run("/bin/sh", &["-c", "cd /usr/local && find . -type f | sort"])?.success()?;
    files.push(("/usr/local".into(), installed.into_bytes()));
    Ok(files)
}

fn a_node_of_kind_gets_and_loses_the_handler() -> Outcome {
    let text = kind::config()?;
    Form::of("2.2", &text).check()?;
    Form::of("2.4", &text).check()
}

/// kubeadm's documentation has a node's file made by `containerd config default`, which imports a folder from 2.2 on.
fn a_node_of_kubeadm_gets_and_loses_the_handler() -> Outcome {
    for (version, changes) in [
        ("1.7", CONFIG),
        ("2.2", "/etc/containerd/conf.d/wisp.toml"),
        ("2.4", "/etc/containerd/conf.d/wisp.toml"),
    ] {
        let blank = Machine::new(version, CONFIG, &[])?;
        let default = blank.run("/opt/bed/containerd", &["config", "default"])?.success()?;
        Form::of(version, &default).changing(changes).check()?;
    }
    Ok(())
}

fn a_node_of_eks_gets_and_loses_the_handler() -> Outcome {
    Form::of("1.7", include_str!("eks-2.toml")).check()?;
    Form::of("2.2", include_str!("eks-3.toml")).check()
}

fn a_node_of_aks_gets_and_loses_the_handler() -> Outcome {
    Form::of("1.7", include_str!("aks-1.toml")).check()?;
    Form::of("2.2", include_str!("aks-2.toml")).check()
}

fn a_node_of_gke_gets_and_loses_the_handler() -> Outcome {
    Form::of("1.7", include_str!("gke.toml")).check()?;
    Form::of("2.2", include_str!("gke.toml")).check()
}

/// Has k3s' way of templates make the file at each start, of its template or where there is none of its base.
fn render(folder: &str, template: &str) -> String {
    format!(
        "[ -e /run/base ] || cp {folder}/config.toml /run/base\n\
         {RENDERED} /run/base {folder}/{template} >/run/rendered && cp /run/rendered {folder}/config.toml\n"
    )
}

fn a_node_of_k3s_gets_and_loses_the_handler() -> Outcome {
    const FOLDER: &str = "/var/lib/rancher/k3s/agent/etc/containerd";
    let main = format!("{FOLDER}/config.toml");
    let of = |version, text, template, changes: &str| {
        let changes = format!("{FOLDER}/{changes}");
        let files = vec![(&*main, text)];
        let before_start = Some(render(FOLDER, template));
        Form { main: &main, files, before_start, ..Form::of(version, text) }.changing(&changes).check()
    };
    of("1.7", include_str!("k3s-2.toml"), "config.toml.tmpl", "config.toml.tmpl")?;
    of("2.2", include_str!("k3s-3.toml"), "config-v3.toml.tmpl", "config-v3.toml.d/wisp.toml")
}

fn a_node_of_rke2_gets_and_loses_the_handler() -> Outcome {
    const FOLDER: &str = "/var/lib/rancher/rke2/agent/etc/containerd";
    let (main, template) = (format!("{FOLDER}/config.toml"), format!("{FOLDER}/config-v3.toml.tmpl"));
    let text = include_str!("rke2-3.toml");
    let of = |files| {
        let before_start = Some(render(FOLDER, "config-v3.toml.tmpl"));
        Form { main: &main, files, before_start, ..Form::of("2.4", text) }.changing(&template).check()
    };
    of(vec![(&main, text)])?;
    // A template that is there already is extended.
    of(vec![(&main, text), (&template, include_str!("rke2-3.toml.tmpl"))])
}

fn a_node_of_debian_gets_and_loses_the_handler() -> Outcome {
    Form::of("1.6", include_str!("debian.toml")).check()
}

fn a_node_without_a_file_gets_and_loses_the_handler() -> Outcome {
    for version in ["1.6", "2.2"] {
        // Started without `--config`, which alone may name a file that is not there.
        Form { main: "", files: Vec::new(), ..Form::of(version, "") }.check()?;
        Form::of(version, "# nothing is set\n").check()?;
    }
    Ok(())
}

/// On 1.x the imported file's settings of CRI are the only ones, on 2.x all are merged.
fn a_file_that_imports_others_gets_and_loses_the_handler() -> Outcome {
    let main = format!("imports = [\"more.toml\"]\n{}", include_str!("debian.toml"));
    let more = ("/etc/containerd/more.toml", include_str!("gke.toml"));
    for (version, changes) in [("1.7", more.0), ("2.4", CONFIG)] {
        Form { files: vec![(CONFIG, &main), more], ..Form::of(version, &main) }.changing(changes).check()?;
    }
    Ok(())
}

//! Compiles a guest, makes its plan, and runs it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use wisp_contract::facts::Facts;
use wisp_contract::plan::{Entry, HttpSettings, Plan, Preopen, Program, Report};

fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_wisp-guest")).with_file_name(name);
    assert!(
        path.exists(),
        "{} is not there: build it first (cargo build --release -p {name})",
        path.display()
    );
    path
}

fn memfd() -> File {
    rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap().into()
}

/// What `wisp-compiler` makes of a program: its code and facts, or the sentence with which it refuses.
pub(crate) fn compile(wasm: &[u8]) -> Result<(File, Facts), String> {
    let mut stdin = memfd();
    stdin.write_all(wasm).unwrap();
    rustix::fs::seek(&stdin, rustix::fs::SeekFrom::Start(0)).unwrap();
    let code = memfd();
    let output = Command::new(binary("wisp-compiler"))
        .env_clear()
        .stdin(stdin)
        .fd_mappings(vec![FdMapping { parent_fd: code.try_clone().unwrap().into(), child_fd: 3 }])
        .unwrap()
        .output()
        .unwrap();
    if output.status.success() {
        Ok((code, serde_json::from_slice(&output.stdout).unwrap()))
    } else {
        assert_eq!(output.status.code(), Some(1));
        Err(String::from_utf8(output.stderr).unwrap().trim_end().to_owned())
    }
}

/// A guest to be run.
pub(crate) struct Guest {
    code: File,
    pub(crate) plan: Plan,
    fds: Vec<FdMapping>,
    report: File,
}

impl Guest {
    /// A guest from WebAssembly text, which must compile.
    pub(crate) fn new(wat: &str) -> Self {
        let (code, facts) = compile(&wat::parse_str(wat).unwrap()).unwrap();
        let (report, report_end) = std::io::pipe().unwrap();
        let plan = Plan {
            id: "test".into(),
            program: Program { path: "/guest.wasm".into(), code_fd: 4, facts },
            entry: Entry::Command,
            args: vec!["guest.wasm".into()],
            env: vec![],
            cwd: "/".into(),
            preopens: vec![],
            memory_limit: None,
            cpus: Some(1.0),
            http: HttpSettings::default(),
            control_fd: None,
            counters_fd: None,
            proc_fd: None,
            termination_log: None,
            report_fd: 5,
            wait_for_start: false,
        };
        let fds = vec![FdMapping { parent_fd: report_end.into(), child_fd: 5 }];
        Self { code, plan, fds, report: OwnedFd::from(report).into() }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.plan.args.extend(args.iter().map(ToString::to_string));
        self
    }

    pub(crate) fn export(mut self, name: &str) -> Self {
        self.plan.entry = Entry::Export(name.into());
        self
    }

    pub(crate) fn memory_limit(mut self, bytes: u64) -> Self {
        self.plan.memory_limit = Some(bytes);
        self
    }

    pub(crate) fn preopen(mut self, directory: &Path, guest_path: &str, writable: bool) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = self.hand_over(rustix::fs::open(directory, flags, Mode::empty()).unwrap());
        self.plan.preopens.push(Preopen { guest_path: guest_path.into(), fd, writable });
        self
    }

    /// Gives the process something else than a proc file system to find its code in.
    pub(crate) fn without_proc(mut self, directory: &Path) -> Self {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.plan.proc_fd = Some(self.hand_over(rustix::fs::open(directory, flags, Mode::empty()).unwrap()));
        self
    }

    pub(crate) fn termination_log(mut self, file: &File) -> Self {
        self.plan.termination_log = Some(self.hand_over(file.as_fd().try_clone_to_owned().unwrap()));
        self
    }

    pub(crate) fn control(mut self, listener: &UnixListener) -> Self {
        self.plan.control_fd = Some(self.hand_over(listener.as_fd().try_clone_to_owned().unwrap()));
        self.plan.wait_for_start = true;
        self
    }

    fn hand_over(&mut self, fd: OwnedFd) -> i32 {
        let child_fd = 5 + i32::try_from(self.fds.len()).unwrap();
        self.fds.push(FdMapping { parent_fd: fd, child_fd });
        child_fd
    }

    /// Starts the process and waits for its report.
    pub(crate) fn start(mut self) -> (Child, Report) {
        let mut plan = memfd();
        serde_json::to_writer(&mut plan, &self.plan).unwrap();
        self.fds.push(FdMapping { parent_fd: plan.into(), child_fd: 3 });
        self.fds.push(FdMapping { parent_fd: self.code.into(), child_fd: 4 });
        let mut command = Command::new(binary("wisp-guest"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.fd_mappings(self.fds).unwrap().spawn().unwrap();
        // The command holds this process's copy of the report's write end.
        drop(command);
        let mut report = String::new();
        self.report.read_to_string(&mut report).unwrap();
        (child, serde_json::from_str(&report).unwrap())
    }

    /// Runs a guest that is fit to run to its end.
    pub(crate) fn run(self) -> Output {
        let (child, report) = self.start();
        assert_eq!(report, Report::Ready);
        child.wait_with_output().unwrap()
    }

    /// The sentence with which a guest is refused.
    pub(crate) fn refusal(self) -> String {
        let (child, report) = self.start();
        child.wait_with_output().unwrap();
        match report {
            Report::Failed(sentence) => sentence,
            Report::Ready => panic!("the guest was taken"),
        }
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

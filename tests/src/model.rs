//! Many containers like one that `ctr` made, through containerd's API: a `ctr` for each takes more of the processor than the
//! container does.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use containerd_client::services::v1::Container as Created;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::bed::{Bed, LIMIT};
use crate::client::Client;
use crate::ended::Ended;
use crate::process;
use crate::task::Container;

/// A container that was created and does not run, of which others are made.
#[derive(Debug)]
pub struct Model<'a> {
    bed: &'a Bed,
    client: Client,
    created: Created,
    /// The snapshot of its image.
    parent: String,
}

impl<'a> Model<'a> {
    /// Has `ctr` create a container, which is removed when the value is dropped.
    ///
    /// # Errors
    /// What `ctr` or containerd said.
    pub fn new(bed: &'a Bed, container: Container<'_>) -> Result<Self> {
        process::run(&mut container.command(&["containers", "create"])?, LIMIT)?.success()?;
        let client = bed.client()?;
        let created = client.container(container.id())?;
        let parent = client.parent_of_snapshot(&created.snapshotter, &created.snapshot_key)?;
        Ok(Self { bed, client, created, parent })
    }

    /// Runs a container like it to its end, as `ctr run --rm` does.
    ///
    /// # Errors
    /// What containerd answered.
    pub fn run(&self) -> Result<Ended> {
        let id = self.bed.id("m");
        self.run_as(&id).with_context(|| format!("{id}\n{}", self.bed.log_tail(&id)))
    }

    fn run_as(&self, id: &str) -> Result<Ended> {
        let (client, snapshotter) = (&self.client, &*self.created.snapshotter);
        let mut fifos = Fifos::new(self.bed.folder.join("logs").join(id))?;
        let rootfs =
            client.prepare_snapshot(snapshotter, id, &self.parent).context("preparing a snapshot")?;
        client.create_container(self.copy(id)?).context("creating the container")?;
        client.create_task(id, rootfs, &fifos.folder).context("creating the task")?;
        client.start(id, "").context("starting the task")?;
        // Both end with the guest. The exit of one that lived briefly waits for whoever is to read.
        let (stdout, stderr) = (text(&mut fifos.stdout)?, text(&mut fifos.stderr)?);
        let code = client.wait(id, "").context("waiting for the task")?.cast_signed();
        client.delete(id).context("deleting the task")?;
        client.delete_container(id).context("deleting the container")?;
        client.remove_snapshot(snapshotter, id).context("removing the snapshot")?;
        Ok(Ended { code, stdout, stderr })
    }

    /// What is to be created under another id: the container's control group is called by it.
    fn copy(&self, id: &str) -> Result<Created> {
        let mut created = Created { id: id.to_owned(), snapshot_key: id.to_owned(), ..self.created.clone() };
        let spec = created.spec.as_mut().context("a container without a specification")?;
        let mut value: Value = serde_json::from_slice(&spec.value)?;
        value["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.bed.namespace));
        spec.value = serde_json::to_vec(&value)?;
        Ok(created)
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        // Whoever counts sees what is left.
        let _ = self.client.delete_container(&self.created.id);
        let _ = self.client.remove_snapshot(&self.created.snapshotter, &self.created.snapshot_key);
    }
}

/// The standard files of a task, in a folder that goes with this value.
struct Fifos {
    folder: PathBuf,
    stdout: File,
    stderr: File,
    /// Held open, so that the task's input neither has anything nor ends.
    _stdin: File,
}

impl Fifos {
    fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir(&folder)?;
        let open = |name: &str, write: bool| -> Result<File> {
            let path = folder.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            fifo(&path, write)
        };
        let (stdout, stderr) = (open("stdout", false)?, open("stderr", false)?);
        let _stdin = open("stdin", true)?;
        Ok(Self { folder, stdout, stderr, _stdin })
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Opens one without waiting for its other end.
fn fifo(path: &Path, write: bool) -> Result<File> {
    let mut options = File::options();
    Ok(options.read(true).write(write).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?)
}

/// What is written until the last writer has gone; there is one already.
fn text(fifo: &mut File) -> Result<String> {
    fcntl(&*fifo, FcntlArg::F_SETFL(OFlag::empty())).context("waiting for what the task writes")?;
    let mut text = String::new();
    fifo.read_to_string(&mut text).context("reading what the task wrote")?;
    Ok(text)
}

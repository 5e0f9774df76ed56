//! Containers and the snapshots that are their root file systems.

use std::collections::HashMap;
use std::path::Path;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, GetContainerRequest,
};
use containerd_client::tonic::{Response, Status};
use containerd_client::types::Mount;

use super::{Answer, Client, call};

impl Client {
    /// A container as it was created.
    ///
    /// # Errors
    /// The status.
    pub fn container(&self, id: &str) -> Answer<Container> {
        call!(self, ContainersClient.get, GetContainerRequest { id: id.into() })?
            .container
            .ok_or_else(|| Status::internal("an answer without a container"))
    }

    /// Creates a container.
    ///
    /// # Errors
    /// The status.
    pub fn create_container(&self, container: Container) -> Answer<()> {
        call!(self, ContainersClient.create, CreateContainerRequest { container: Some(container) }).map(drop)
    }

    /// Deletes a container.
    ///
    /// # Errors
    /// The status.
    pub fn delete_container(&self, id: &str) -> Answer<()> {
        call!(self, ContainersClient.delete, DeleteContainerRequest { id: id.into() })
    }

    /// The snapshot that one was prepared from.
    ///
    /// # Errors
    /// The status.
    pub fn parent_of_snapshot(&self, snapshotter: &str, key: &str) -> Answer<String> {
        let request = StatSnapshotRequest { snapshotter: snapshotter.into(), key: key.into() };
        let info = call!(self, SnapshotsClient.stat, request)?.info;
        Ok(info.ok_or_else(|| Status::internal("an answer without a snapshot"))?.parent)
    }

    /// Prepares a snapshot to be written; its mounts. It stays until it is removed.
    ///
    /// # Errors
    /// The status.
    pub fn prepare_snapshot(&self, snapshotter: &str, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        // Until a container names it nothing else keeps it from containerd's collector.
        let root = ("containerd.io/gc.root".to_owned(), "2000-01-01T00:00:00Z".to_owned());
        let request = PrepareSnapshotRequest {
            snapshotter: snapshotter.into(),
            key: key.into(),
            parent: parent.into(),
            labels: HashMap::from([root]),
        };
        call!(self, SnapshotsClient.prepare, request).map(|answer| answer.mounts)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// The status.
    pub fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Answer<()> {
        let request = RemoveSnapshotRequest { snapshotter: snapshotter.into(), key: key.into() };
        call!(self, SnapshotsClient.remove, request)
    }

    /// Creates the task of a container, whose standard files are fifos called `stdin`, `stdout` and `stderr` in a folder.
    ///
    /// # Errors
    /// The status.
    pub fn create_task(&self, id: &str, rootfs: Vec<Mount>, fifos: &Path) -> Answer<()> {
        let fifo = |name: &str| fifos.join(name).display().to_string();
        let request = CreateTaskRequest {
            container_id: id.into(),
            rootfs,
            stdin: fifo("stdin"),
            stdout: fifo("stdout"),
            stderr: fifo("stderr"),
            ..Default::default()
        };
        call!(self, create, request).map(drop)
    }
}

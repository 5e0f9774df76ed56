//! Debian's docker-registry.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bed::{LIMIT, eventually};
use crate::process::Server;
use crate::site;
use crate::space::Space;

/// A registry that keeps everything in `folder` and listens at `address`, with `more` in its configuration; to be started.
///
/// # Errors
/// Where it is missing, and those of writing its configuration.
pub fn serve(space: &Space, folder: &Path, address: &str, more: &str) -> Result<Command> {
    let (config, data) = (folder.join("config.yml"), folder.join("data"));
    fs::create_dir_all(&data)?;
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '{address}', secret: of-the-tests}}\n{more}",
        data.display()
    );
    fs::write(&config, text)?;
    let mut command = space.command(site::registry("docker-registry")?);
    command.arg("serve").arg(config);
    Ok(command)
}

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    _server: Server,
    /// Where it listens, which is how the names of its images begin.
    pub address: String,
}

impl Registry {
    /// Starts one on the loopback of a space.
    ///
    /// # Errors
    /// Where it is missing or does not come up.
    pub fn start(space: &Space, folder: &Path, port: u16) -> Result<Self> {
        let address = format!("127.0.0.1:{port}");
        let registry = Self { _server: Server::start(serve(space, folder, &address, "")?)?, address };
        eventually("the registry", LIMIT, || {
            let address = registry.address.clone();
            space.inside(move || Ok(TcpStream::connect(address).ok()))
        })?;
        Ok(registry)
    }

    /// The name of an image of it.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

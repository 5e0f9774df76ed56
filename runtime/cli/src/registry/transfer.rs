//! Images on the way: blobs first and several at once, then the documents that name them.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use oci_spec::distribution::Reference;
use oci_spec::image::Descriptor;
use wisp_images::blobs::Blobs;
use wisp_images::contents::{Contents, Platforms};
use wisp_images::document;
use wisp_images::store::Store;
use wisp_registry::Registry;

use super::options::Remote;
use super::progress::Progress;

/// As many blobs move at once, as docker and containerd do it.
const AT_ONCE: usize = 4;

/// Pulls an image into the store under its name. What fails leaves nothing.
///
/// # Errors
/// One sentence.
pub(crate) fn pull(
    store: &Store,
    name: &Reference,
    platforms: Platforms,
    remote: &Remote,
    progress: &Progress,
) -> Result<Descriptor> {
    let hold = store.hold()?;
    let pulled = pull_held(store, name, platforms, remote, progress);
    drop(hold);
    // What the name led to before, or what was pulled in vain.
    store.collect()?;
    pulled
}

fn pull_held(
    store: &Store,
    name: &Reference,
    platforms: Platforms,
    remote: &Remote,
    progress: &Progress,
) -> Result<Descriptor> {
    let registry = Registry::of(name, &remote.options(progress.watch()))?;
    let (target, contents) = remote_contents(&registry, name, platforms)?;
    let blobs: Vec<_> = contents.blobs.iter().filter(|blob| !is_here(store.blobs(), blob)).collect();
    fits(store, &blobs)?;
    progress.expect("pulling", blobs.iter().map(|blob| blob.size()).sum());
    each(&blobs, |blob| {
        let mut into = store.blobs().begin_checked(document::digest(blob)?)?;
        registry.blob(name, blob, &mut into)?;
        into.commit()?;
        progress.line(&format!("{} pulled, {}", blob.digest(), ByteSize::b(blob.size())));
        Ok(())
    })?;
    for (_, bytes) in &contents.documents {
        store.blobs().put(bytes)?;
    }
    store.tag(name, &target)?;
    Ok(target)
}

/// Pushes an image from a store, with everything that its documents name.
///
/// # Errors
/// One sentence.
pub(super) fn push(
    blobs: &Blobs,
    target: &Descriptor,
    name: &Reference,
    remote: &Remote,
    progress: &Progress,
) -> Result<()> {
    let read = |descriptor: &Descriptor| anyhow::Ok(blobs.read(&document::digest(descriptor)?)?);
    let contents = Contents::of(target, Platforms::All, read)?;
    let absent = contents.blobs.iter().find(|blob| !is_here(blobs, blob));
    if let Some(absent) = contents.missing.first().or(absent) {
        bail!(
            "the image names {}, which is not here; pull it with --all-platforms before you push it, or push one of its \
             manifests as NAME@sha256:DIGEST",
            absent.digest()
        );
    }
    let registry = Registry::of(name, &remote.options(progress.watch()))?;
    let open = |blob: &Descriptor| -> io::Result<Box<dyn Read>> {
        let digest = document::digest(blob).map_err(io::Error::other)?;
        Ok(Box::new(File::open(blobs.path(&digest))?))
    };
    send(&registry, name, &contents, None, &open, progress)
}

/// Copies an image with all its platforms. What the other registry has already is not moved.
///
/// # Errors
/// One sentence.
pub(super) fn copy(
    from: &Reference,
    to: &Reference,
    remote: &Remote,
    progress: &Progress,
) -> Result<Descriptor> {
    let source = Registry::of(from, &remote.options(progress.watch()))?;
    let (target, contents) = remote_contents(&source, from, Platforms::All)?;
    let registry = Registry::of(to, &remote.options(progress.watch()))?;
    let open = |blob: &Descriptor| -> io::Result<Box<dyn Read>> {
        let mut file = tempfile::tempfile()?;
        source.blob(from, blob, &mut file).map_err(io::Error::other)?;
        file.rewind()?;
        Ok(Box::new(file))
    };
    let same = (from.registry() == to.registry()).then(|| from.repository());
    send(&registry, to, &contents, same, &open, progress)?;
    Ok(target)
}

fn remote_contents(
    registry: &Registry,
    name: &Reference,
    platforms: Platforms,
) -> Result<(Descriptor, Contents)> {
    let manifest = registry.manifest(name)?;
    let target = Descriptor::new(manifest.media_type, manifest.bytes.len() as u64, manifest.digest);
    let mut first = Some(manifest.bytes);
    let fetch = |descriptor: &Descriptor| match first.take() {
        Some(bytes) => Ok(Some(bytes)),
        None => anyhow::Ok(Some(registry.manifest(&by_digest(name, descriptor))?.bytes)),
    };
    let contents = Contents::of(&target, platforms, fetch)?;
    Ok((target, contents))
}

fn by_digest(name: &Reference, descriptor: &Descriptor) -> Reference {
    name.clone_with_digest(descriptor.digest().to_string())
}

fn send(
    registry: &Registry,
    name: &Reference,
    contents: &Contents,
    from: Option<&str>,
    open: &(dyn Fn(&Descriptor) -> io::Result<Box<dyn Read>> + Sync),
    progress: &Progress,
) -> Result<()> {
    let blobs: Vec<_> = contents.blobs.iter().collect();
    progress.expect("pushing", blobs.iter().map(|blob| blob.size()).sum());
    each(&blobs, |blob| {
        registry.push_blob(name, blob, &|| open(blob), from).map_err(of_source)?;
        progress.line(&format!("{} is there, {}", blob.digest(), ByteSize::b(blob.size())));
        Ok(())
    })?;
    let (last, others) = contents.documents.split_last().context("an image without a manifest")?;
    for (descriptor, bytes) in others {
        registry.push_manifest(&by_digest(name, descriptor), descriptor.media_type(), bytes)?;
    }
    registry.push_manifest(name, last.0.media_type(), &last.1)?;
    Ok(())
}

/// An error of the registry that a blob comes from, as that registry told it.
fn of_source(error: wisp_registry::Error) -> wisp_registry::Error {
    match error {
        wisp_registry::Error::Source { what, source } => source
            .downcast::<wisp_registry::Error>()
            .unwrap_or_else(|source| wisp_registry::Error::Source { what, source }),
        other => other,
    }
}

fn is_here(blobs: &Blobs, blob: &Descriptor) -> bool {
    document::digest(blob).is_ok_and(|digest| blobs.has(&digest, blob.size()))
}

/// That the disk has room for these blobs.
fn fits(store: &Store, blobs: &[&Descriptor]) -> Result<()> {
    let size = blobs.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size()));
    let free = free(store.root())?;
    ensure!(
        size <= free,
        "the image has {} and {} has {} free; make room there, or set XDG_DATA_HOME to a larger disk",
        ByteSize::b(size),
        store.root().display(),
        ByteSize::b(free)
    );
    Ok(())
}

fn free(path: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(path).with_context(|| path.display().to_string())?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Does something with each blob, several at once; the first error ends it.
fn each(blobs: &[&Descriptor], work: impl Fn(&Descriptor) -> Result<()> + Sync) -> Result<()> {
    let (next, failed) = (Mutex::new(blobs.iter()), Mutex::new(None));
    let worker = || {
        // A poisoned lock is that of a worker that panicked, which ends the whole anyway.
        while let Some(blob) = next.lock().ok().and_then(|mut next| next.next()) {
            if let Err(error) = work(blob) {
                if let Ok(mut failed) = failed.lock() {
                    failed.get_or_insert(error);
                }
                if let Ok(mut next) = next.lock() {
                    *next = [].iter();
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..blobs.len().min(AT_ONCE) {
            scope.spawn(worker);
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

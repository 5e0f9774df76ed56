//! Compiled code, made once a node and shared by every pod that runs it.
//!
//! [`Cache::program`] and [`Cache::named`] are the doors: they take the Wasm of a guest, or its digest, and give its
//! compiled code and facts, from the cache's folder where they are, else by one confined run of `wisp-compiler` that
//! everyone who waits for the same program joins.
//!
//! - [`key`]: what an entry is called: the program's digest and everything that its code depends on.
//! - [`store`]: the folder: written once, checked before use, bounded in size.
//! - [`memo`]: which digests programs had that were read before; [`overlay`]: whose files can be known again, which
//!   [`statmount`] asks the kernel.
//! - [`locks`]: who compiles and who waits.
//! - [`keeper`]: the process that owns a compile.
//! - [`compile`]: the confined process.
//! - [`personal`]: where the cache of one who is not root is.
//! - [`notes`]: why a compile failed, for those who waited for it.

mod compile;
mod keeper;
mod key;
mod locks;
mod memo;
mod notes;
mod overlay;
mod personal;
mod statmount;
mod store;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use wisp_config::Config;
use wisp_contract::companion;
use wisp_contract::digest::Digest;
use wisp_contract::facts::Facts;

use compile::Output;
pub use compile::{COMPILER_CGROUP, Failure};
use keeper::Job;
pub use key::Key;
use locks::{Turn, Waiting};
use memo::Memo;
use notes::Notes;
use store::Store;
use tracing::warn;

/// The node's state that does not outlive a boot: locks, which entries were checked since, and which digests programs had.
const RUN: &str = "/run/wisp";

/// Compiled code and what is known of it.
#[derive(Debug)]
pub struct Compiled {
    /// The code, open for reading; to be mapped.
    pub code: File,
    /// What the program is.
    pub facts: Facts,
}

/// Why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Wasm cannot be read.
    #[error("the Wasm cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The Wasm is another than its name says.
    #[error("the Wasm was expected to be {expected} and is {found}; remove the image and pull it again")]
    Altered {
        /// The digest that it is called by.
        expected: Digest,
        /// Its own.
        found: Digest,
    },
    /// The compiler is not installed.
    #[error(transparent)]
    Compiler(io::Error),
    /// The program was refused, or the compiler died.
    #[error(transparent)]
    Compile(#[from] Failure),
    /// Locks or memory are not to be had.
    #[error("compiled code cannot be kept: {0}")]
    System(#[from] io::Error),
}

/// The node's cache.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    memo: Memo,
    notes: Notes,
    run: PathBuf,
    compiler: PathBuf,
    limits: wisp_config::Compiler,
}

impl Cache {
    /// The cache that the node's configuration names, and the compiler of this installation. Who is not root has a cache of
    /// their own, `$XDG_CACHE_HOME/wisp`.
    ///
    /// # Errors
    /// If the compiler is not installed, or a cache of one's own cannot be made.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let compiler = companion::find("wisp-compiler").map_err(Error::Compiler)?;
        if personal::is_root() {
            return Ok(Self::at(config, Path::new(RUN), compiler));
        }
        let folder = personal::folder()?;
        let mut config = config.clone();
        config.cache.path = folder.join("compiled");
        Ok(Self::at(&config, &folder.join("run"), compiler))
    }

    fn at(config: &Config, run: &Path, compiler: PathBuf) -> Self {
        Self {
            store: Store::new(&config.cache.path, run, config.cache.max_size.as_u64()),
            memo: Memo::new(run),
            notes: Notes::new(run),
            run: run.into(),
            compiler,
            limits: config.compiler.clone(),
        }
    }

    /// The compiled code of the program in `wasm`, which is read from its start, unless it is known from a time before.
    ///
    /// A cache that cannot be written, or whose folder does not let code be mapped, costs a warning and the time to
    /// compile, never the pod.
    ///
    /// # Errors
    /// [`Error`]; a program that is refused says why in one sentence.
    pub fn program(&self, wasm: &mut File) -> Result<Compiled, Error> {
        let key = Key::of(&self.memo.digest(wasm).map_err(Error::Read)?, &self.compiler)?;
        if let Some(compiled) = self.store.get(&key) {
            return Ok(compiled);
        }
        // The file is the image's and may change under us: what is compiled is a copy that cannot, and the entry is
        // called by the copy's digest.
        let mut copy = self.frozen(wasm).map_err(Error::Read)?;
        let key = Key::of(&key::digest(&mut copy).map_err(Error::Read)?, &self.compiler)?;
        self.compile(&key, &copy)
    }

    /// The facts of the program in `wasm` if its compiled code is here; nothing is compiled, checked or touched.
    ///
    /// # Errors
    /// Those of reading the Wasm, and of seeing the compiler, which the code's name depends on.
    pub fn known(&self, wasm: &mut File) -> io::Result<Option<Facts>> {
        let key = Key::of(&key::digest(wasm)?, &self.compiler)?;
        Ok(self.store.peek(&key))
    }

    /// The compiled code of the program whose Wasm has the SHA-256 `digest`. The Wasm is opened, and checked against the
    /// digest, only where there is no code of it yet.
    ///
    /// # Errors
    /// As for [`Cache::program`], and if the Wasm is another.
    pub fn named(&self, digest: &Digest, open: impl FnOnce() -> io::Result<File>) -> Result<Compiled, Error> {
        let key = Key::of(&digest.0, &self.compiler)?;
        if let Some(compiled) = self.store.get(&key) {
            return Ok(compiled);
        }
        let mut copy = open().and_then(|mut wasm| self.frozen(&mut wasm)).map_err(Error::Read)?;
        let found = Digest(key::digest(&mut copy).map_err(Error::Read)?);
        if found != *digest {
            return Err(Error::Altered { expected: *digest, found });
        }
        self.compile(&key, &copy)
    }

    /// A sealed copy of a file, from its start. It is in memory, so what no compiler could hold is not copied.
    fn frozen(&self, file: &mut File) -> io::Result<File> {
        file.rewind()?;
        let mut copy =
            File::from(memfd_create("wisp-wasm", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        let most = self.limits.memory.as_u64();
        if io::copy(&mut file.take(most.saturating_add(1)), &mut copy)? > most {
            return Err(io::Error::other(format!(
                "it is larger than the memory of a compile, {}; expected a program that fits, or a larger compiler.memory in \
                 /etc/wisp/config.toml",
                self.limits.memory
            )));
        }
        copy.flush()?;
        copy.rewind()?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&copy, seals)?;
        Ok(copy)
    }

    /// Has the Wasm in `copy` compiled, or waits for whoever has it compiled already.
    fn compile(&self, key: &Key, copy: &File) -> Result<Compiled, Error> {
        let _waiting = Waiting::announce(&self.run, key)?;
        loop {
            let turn = Turn::take(&self.run, key)?;
            let joins = turn.is_none();
            if joins {
                Turn::ended(&self.run, key)?;
            }
            if let Some(compiled) = self.store.get(key) {
                return Ok(compiled);
            }
            let failed = if joins { self.notes.read(key) } else { self.notes.take_unheard(key) };
            if let Some(failure) = failed {
                return Err(Failure::Told(failure).into());
            }
            if let Some(turn) = turn {
                return self.keep(turn, key, copy);
            }
        }
    }

    /// Has a keeper compile the Wasm in `wasm`.
    fn keep(&self, turn: Turn, key: &Key, wasm: &File) -> Result<Compiled, Error> {
        let output = Output::new()?;
        let job = Job {
            key,
            wasm,
            output: &output,
            compiler: &self.compiler,
            limits: &self.limits,
            store: &self.store,
            notes: &self.notes,
            run: &self.run,
        };
        let outcome = job.start(turn)?.outcome()?;
        outcome.warnings.iter().for_each(|warning| warn!("{warning}"));
        if let Some(failure) = outcome.failure {
            return Err(Failure::Told(failure).into());
        }
        match self.store.get(key) {
            Some(compiled) => Ok(compiled),
            None => Ok(output.compiled()?),
        }
    }
}

/// A file in memory, for what has no place on disk.
fn in_memory(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Feeds all of `file`, from its start, to `sink`, and rewinds it.
fn each_chunk(file: &mut File, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    file.rewind()?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => sink(&buffer[..read])?,
        }
    }
    file.rewind()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        cache: Cache,
    }

    impl Bed {
        fn new(compiler_memory: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (folder, compiler) = (dir.path().join("cache"), dir.path().join("compiler"));
            std::fs::write(&compiler, "#!/bin/false\n").unwrap();
            let text = format!("[cache]\npath = {folder:?}\n[compiler]\nmemory = {compiler_memory:?}\n");
            let config = Config::parse(Path::new("config.toml"), &text).unwrap();
            let cache = Cache::at(&config, &dir.path().join("run"), compiler);
            Self { dir, cache }
        }

        fn file(&self, bytes: &[u8]) -> File {
            let path = self.dir.path().join("app.wasm");
            std::fs::write(&path, bytes).unwrap();
            File::open(path).unwrap()
        }
    }

    #[test]
    fn compiled_code_of_a_digest_is_got_without_the_wasm() {
        let bed = Bed::new("1 MiB");
        let key = Key::of(&[7; 32], &bed.cache.compiler).unwrap();
        let facts = serde_json::json!({
            "kind": "module", "profile": "fast", "wasmtime": "48", "imports": [], "exports": [], "memories": [],
            "wasm_bytes": 8, "code_bytes": 4,
        });
        let mut code = in_memory("test").unwrap();
        code.write_all(b"code").unwrap();
        let mut compiled = Compiled { code, facts: serde_json::from_value(facts).unwrap() };
        bed.cache.store.put(&key, &mut compiled).unwrap();
        let got = bed.cache.named(&Digest([7; 32]), || Err(io::Error::other("it was opened"))).unwrap();
        assert_eq!(got.facts.code_bytes, 4);
    }

    #[test]
    fn what_is_known_of_a_program_is_what_is_kept() {
        let bed = Bed::new("1 MiB");
        let mut wasm = bed.file(b"\0asm");
        assert_eq!(bed.cache.known(&mut wasm).unwrap(), None);
        let key = Key::of(&key::digest(&mut wasm).unwrap(), &bed.cache.compiler).unwrap();
        let facts: Facts = serde_json::from_value(serde_json::json!({
            "kind": "module", "profile": "fast", "wasmtime": "48", "imports": [], "exports": [], "memories": [],
            "wasm_bytes": 4, "code_bytes": 4,
        }))
        .unwrap();
        let mut code = in_memory("test").unwrap();
        code.write_all(b"code").unwrap();
        bed.cache.store.put(&key, &mut Compiled { code, facts: facts.clone() }).unwrap();
        assert_eq!(bed.cache.known(&mut wasm).unwrap(), Some(facts));
    }

    #[test]
    fn wasm_of_another_digest_is_not_compiled() {
        let bed = Bed::new("1 MiB");
        let error = bed.cache.named(&Digest([7; 32]), || Ok(bed.file(b"\0asm"))).unwrap_err();
        assert!(matches!(error, Error::Altered { expected, .. } if expected == Digest([7; 32])), "{error}");
    }

    #[test]
    fn wasm_that_no_compiler_could_hold_is_not_read() {
        let bed = Bed::new("1 KiB");
        let error = bed.cache.program(&mut bed.file(&[0; 1025])).unwrap_err().to_string();
        assert!(error.contains("1.0 KiB") && error.contains("compiler.memory"), "{error}");
    }
}

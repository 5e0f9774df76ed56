//! What `wisp build` builds in a folder: a Cargo project, or whatever its `wisp.toml` says.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The file that says how.
const FILE: &str = "wisp.toml";
/// What Cargo builds for.
const TARGET: &str = "wasm32-wasip2";

/// A folder with a program's source.
#[derive(Debug)]
pub(crate) struct Project {
    folder: PathBuf,
    how: How,
    /// The image's name, where the project says one.
    pub(super) tag: Option<String>,
}

#[derive(Debug)]
enum How {
    Cargo,
    Line { build: Option<String>, wasm: Vec<PathBuf> },
}

/// `wisp.toml`, which users write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toml {
    /// A line for the shell, run in the folder.
    build: Option<String>,
    /// The files that it makes, from the folder.
    wasm: Option<Wasm>,
    /// The image's name.
    tag: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Wasm {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl Project {
    /// Looks at a folder.
    ///
    /// # Errors
    /// If nothing says how it is built.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let is_cargos = folder.join("Cargo.toml").is_file();
        let toml = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string())?,
            Err(error) if error.kind() == ErrorKind::NotFound => Toml { build: None, wasm: None, tag: None },
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let how = match (toml.wasm, toml.build) {
            (Some(Wasm::One(file)), build) => How::Line { build, wasm: vec![file] },
            (Some(Wasm::Several(wasm)), build) => How::Line { build, wasm },
            (None, Some(_)) => bail!(
                "{} says how to build and not what comes of it; add a line like wasm = \"app.wasm\"",
                path.display()
            ),
            (None, None) if is_cargos => How::Cargo,
            (None, None) => bail!(
                "{} has neither Cargo.toml nor {FILE}; a {FILE} with the lines build = \"…\" and wasm = \"app.wasm\" says how it is built",
                folder.display()
            ),
        };
        Ok(Self { folder: folder.to_path_buf(), how, tag: toml.tag })
    }

    /// Builds it, with what the build says on standard error, and gives the Wasm files.
    ///
    /// # Errors
    /// If the build fails, or makes no Wasm.
    pub(super) fn build(&self) -> Result<Vec<PathBuf>> {
        match &self.how {
            How::Cargo => self.cargo(),
            How::Line { build, wasm } => {
                if let Some(line) = build {
                    let mut command = Command::new("sh");
                    let status =
                        command.arg("-c").arg(line).current_dir(&self.folder).stdout(std::io::stderr());
                    succeeded(status.status().context("starting sh")?, line)?;
                }
                Ok(wasm.iter().map(|file| self.folder.join(file)).collect())
            }
        }
    }

    fn cargo(&self) -> Result<Vec<PathBuf>> {
        let args = ["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"];
        let mut child = Command::new("cargo")
            .args(args)
            .current_dir(&self.folder)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting cargo, which builds projects with a Cargo.toml")?;
        let messages = child.stdout.take().context("the messages of cargo")?;
        let mut files = Vec::new();
        for line in BufReader::new(messages).lines() {
            files.extend(wasm_of(&line?));
        }
        succeeded(child.wait()?, "cargo build")?;
        ensure!(
            !files.is_empty(),
            "cargo has built no Wasm in {}; a binary, or a library with crate-type cdylib, was expected",
            self.folder.display()
        );
        Ok(files)
    }
}

/// A message of Cargo, as far as it is of interest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    filenames: Vec<PathBuf>,
}

/// The Wasm files that a message of Cargo is about.
fn wasm_of(line: &str) -> Vec<PathBuf> {
    let message: Message = serde_json::from_str(line).unwrap_or_default();
    let is_wasm = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "wasm");
    message.filenames.into_iter().filter(is_wasm).collect()
}

fn succeeded(status: ExitStatus, what: &str) -> Result<()> {
    ensure!(status.success(), "the build failed ({status}): {what}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Project>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let project = Project::open(folder.path());
        (folder, project)
    }

    #[test]
    fn one_line_says_how_any_language_is_built() {
        let toml = "build = \"echo made >app.wasm\"\nwasm = \"app.wasm\"\ntag = \"wisp.test/app:1\"\n";
        let (folder, project) = project(&[("wisp.toml", toml), ("Cargo.toml", "")]);
        let project = project.unwrap();
        assert_eq!(project.tag.as_deref(), Some("wisp.test/app:1"));
        assert_eq!(project.build().unwrap(), [folder.path().join("app.wasm")]);
        assert_eq!(fs::read_to_string(folder.path().join("app.wasm")).unwrap(), "made\n");
    }

    #[test]
    fn a_build_that_fails_is_told() {
        let (_folder, project) = project(&[("wisp.toml", "build = \"exit 3\"\nwasm = [\"a.wasm\"]\n")]);
        let error = project.unwrap().build().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("exit 3"), "{error}");
    }

    #[test]
    fn a_folder_that_does_not_say_how_is_refused() {
        for (files, word) in [
            (&[][..], "neither Cargo.toml nor wisp.toml"),
            (&[("wisp.toml", "build = \"make\"")], "wasm = \"app.wasm\""),
            (&[("wisp.toml", "bulid = \"make\"")], "unknown field `bulid`"),
        ] {
            let (_folder, project) = project(files);
            let error = format!("{:#}", project.unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn cargos_messages_name_the_wasm_files() {
        let line = r#"{"reason":"compiler-artifact","filenames":["/t/app.wasm","/t/app.d"],"fresh":true}"#;
        assert_eq!(wasm_of(line), [Path::new("/t/app.wasm")]);
        assert!(wasm_of("Compiling").is_empty() && wasm_of(r#"{"reason":"build-finished"}"#).is_empty());
    }
}

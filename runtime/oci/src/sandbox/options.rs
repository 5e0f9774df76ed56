//! Mount options, from words to the kernel's calls (`mount(8)`, and runc's `r…` forms for whole trees).

use anyhow::{Result, bail};

use super::mount_api::Attributes;

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// The options of one mount.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `bind` or `rbind`.
    pub bind: Option<Bind>,
    /// For the mount itself.
    pub attributes: Attributes,
    /// For the mount and all below it (`rro` and its like).
    pub recursive: Attributes,
    /// How mounts spread, for the mount itself (`private`) and for the whole tree (`rprivate`).
    pub propagation: Vec<(u64, Tree)>,
    /// What is for the file system: `size=64m`, `newinstance`.
    pub data: Vec<(String, Option<String>)>,
}

/// What a bind mount takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// One mount.
    One,
    /// Everything mounted below it too.
    Tree,
}

/// How far a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// One mount.
    One,
    /// Everything mounted below it too.
    All,
}

impl Options {
    /// Reads the options of a mount.
    ///
    /// # Errors
    /// For those that this runtime does not carry out.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a String>) -> Result<Self> {
        let mut options = Self::default();
        for word in words {
            options.add(word)?;
        }
        Ok(options)
    }

    fn add(&mut self, word: &str) -> Result<()> {
        match word {
            "defaults" | "" => {}
            "bind" => self.bind = Some(Bind::One),
            "rbind" => self.bind = Some(Bind::Tree),
            "idmap" | "ridmap" | "tmpcopyup" => {
                bail!("the mount option {word:?} is not one that this runtime carries out")
            }
            _ => {
                if let Some(change) = propagation(word) {
                    self.propagation.push(change);
                } else if let Some((set, clear)) = attribute(word) {
                    change(&mut self.attributes, set, clear);
                } else if let Some((set, clear)) = word.strip_prefix('r').and_then(attribute) {
                    change(&mut self.recursive, set, clear);
                } else {
                    let (key, value) = match word.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (word, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}

fn change(attributes: &mut Attributes, set: u64, clear: u64) {
    attributes.set = (attributes.set & !clear) | set;
    attributes.clear |= clear;
}

/// What an option sets and clears.
fn attribute(word: &str) -> Option<(u64, u64)> {
    Some(match word {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, ATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME),
        "strictatime" => (STRICTATIME, ATIME),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<(u64, Tree)> {
    let (word, tree) = match word {
        "private" | "shared" | "slave" | "unbindable" => (word, Tree::One),
        "rprivate" | "rshared" | "rslave" | "runbindable" => (&word[1..], Tree::All),
        _ => return None,
    };
    Some((propagation_flag(word)?, tree))
}

/// The kernel's flag for a propagation's name.
#[must_use]
pub fn propagation_flag(word: &str) -> Option<u64> {
    Some(match word {
        "private" => libc::MS_PRIVATE,
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Options {
        Options::parse(&words.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn words_become_attributes_and_data() {
        let options = parse("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620");
        assert_eq!(options.attributes, Attributes::set(NOSUID | NOEXEC));
        let data: Vec<_> = options.data.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(data, [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))]);
    }

    #[test]
    fn a_later_word_wins() {
        assert_eq!(parse("ro,rw").attributes.set, 0);
        assert_eq!(parse("rw,ro").attributes.set, RDONLY);
        assert_eq!(parse("noatime,strictatime").attributes.set, STRICTATIME);
    }

    #[test]
    fn the_r_forms_are_for_the_tree_and_relatime_is_none_of_them() {
        assert_eq!(parse("rbind,rro").recursive.set, RDONLY);
        assert_eq!(parse("rbind,rro").bind, Some(Bind::Tree));
        assert_eq!(parse("relatime").recursive, Attributes::default());
        assert_eq!(parse("rprivate").propagation, [(libc::MS_PRIVATE, Tree::All)]);
    }

    #[test]
    fn what_is_not_carried_out_is_refused() {
        let error = Options::parse(&["tmpcopyup".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("tmpcopyup"));
    }
}

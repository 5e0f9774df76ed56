//! Names of images.
//!
//! The grammar is that of [`Reference`]'s own parser, whose regular expression takes twenty milliseconds to compile: longer than all
//! else that a short command does.

use std::sync::LazyLock;

use oci_spec::distribution::{ParseError, Reference};
use regex_lite::Regex;

use crate::Error;

/// The registry of names without one, and what it was called once.
const HUB: (&str, &str) = ("docker.io", "index.docker.io");
/// The repositories of that registry which have no owner.
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// How long a repository's name may be, in bytes.
const MAX_REPOSITORY: usize = 255;
/// How long a whole name may be, in bytes: none that the other bounds allow is longer.
const MAX_NAME: usize = 1024;

/// Name, tag and digest (<https://github.com/distribution/reference/blob/main/regexp.go>).
static GRAMMAR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const HOST: &str = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    const PART: &str = "[a-z0-9]+(?:(?:[._]|__|-*)[a-z0-9]+)*";
    const DIGEST: &str = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[[:xdigit:]]{32,}";
    let name = format!(r"(?:{HOST}(?:\.{HOST})*(?::[0-9]+)?/)?{PART}(?:/{PART})*");
    Regex::new(&format!(r"^({name})(?::(\w[\w.-]{{0,127}}))?(?:@({DIGEST}))?$")).ok()
});

/// An image's name as docker reads it: without a registry it is on the public one, without a tag it is `latest`.
///
/// # Errors
/// [`Error::NoName`]
pub fn reference(text: &str) -> Result<Reference, Error> {
    parse(text).map_err(|error| Error::NoName(text.chars().take(MAX_NAME).collect(), error.to_string()))
}

fn parse(text: &str) -> Result<Reference, ParseError> {
    if text.is_empty() {
        return Err(ParseError::NameEmpty);
    }
    if text.len() > MAX_NAME {
        return Err(ParseError::NameTooLong);
    }
    let found = GRAMMAR.as_ref().and_then(|grammar| grammar.captures(text));
    let found = found.ok_or(ParseError::ReferenceInvalidFormat)?;
    let group = |number| found.get(number).map(|group| group.as_str().to_owned());
    let (registry, repository) = split(&found[1]);
    if repository.len() > MAX_REPOSITORY {
        return Err(ParseError::NameTooLong);
    }
    if let Some(digest) = group(3) {
        check(&digest)?;
    }
    Ok(match (group(2), group(3)) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, repository, tag, digest),
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (tag, None) => {
            Reference::with_tag(registry, repository, tag.unwrap_or_else(|| DEFAULT_TAG.to_owned()))
        }
    })
}

/// Registry and repository of a name. What is before the first slash is a registry if it looks like a host.
fn split(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => (HUB.0, name),
    };
    let registry = if registry == HUB.1 { HUB.0 } else { registry };
    match registry == HUB.0 && !repository.contains('/') {
        true => (registry.to_owned(), format!("{OFFICIAL}/{repository}")),
        false => (registry.to_owned(), repository.to_owned()),
    }
}

/// That a digest is as long as those of its algorithm.
fn check(digest: &str) -> Result<(), ParseError> {
    let (algorithm, hex) = digest.split_once(':').ok_or(ParseError::DigestInvalidFormat)?;
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(ParseError::DigestUnsupported),
    };
    if hex.len() == digits { Ok(()) } else { Err(ParseError::DigestInvalidLength) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What names are put together from, good and bad.
    const REGISTRIES: &[&str] = &[
        "",
        "docker.io/",
        "index.docker.io/",
        "localhost/",
        "localhost:5000/",
        "127.0.0.1:5000/",
        "wisp.test/",
        "Wisp.Test:443/",
        "no-host/",
        "-wisp.test/",
        "wisp..test/",
        "wisp.test:/",
        "[::1]:5000/",
        "/",
    ];
    const REPOSITORIES: &[&str] = &[
        "app", "team/app", "a/b/c", "a.b", "a_b", "a__b", "a---b", "a..b", "a.-b", "App", "a/", "a//b", "",
        "a b", "ä", "test.com",
    ];
    const TAGS: &[&str] = &["", ":1", ":v1.2.3-rc_1", ":Latest", ":_x", ":.x", ":-x", ":", ":a:b", ":a/b"];

    fn digests() -> Vec<String> {
        let hex = |count| "0aF".chars().cycle().take(count).collect::<String>();
        vec![
            String::new(),
            format!("@sha256:{}", hex(64)),
            format!("@sha256:{}", hex(63)),
            format!("@sha256:{}", hex(31)),
            format!("@sha384:{}", hex(96)),
            format!("@sha512:{}", hex(128)),
            format!("@md5:{}", hex(32)),
            format!("@a+b.c:{}", hex(32)),
            "@sha256".to_owned(),
            "@".to_owned(),
        ]
    }

    #[test]
    fn names_are_read_as_the_crate_of_the_specification_reads_them() {
        let (mut good, mut bad) = (0, 0);
        for registry in REGISTRIES {
            for repository in REPOSITORIES {
                for tag in TAGS {
                    for digest in digests() {
                        let text = format!("{registry}{repository}{tag}{digest}");
                        let expected = text.parse::<Reference>();
                        *if expected.is_ok() { &mut good } else { &mut bad } += 1;
                        assert_eq!(parse(&text), expected, "{text}");
                    }
                }
            }
        }
        assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
    }

    #[test]
    fn a_name_is_as_long_as_docker_lets_it_be() {
        for (text, fits) in [
            (format!("wisp.test/{}:{}", "a".repeat(MAX_REPOSITORY), "b".repeat(128)), true),
            (format!("wisp.test/{}", "a".repeat(MAX_REPOSITORY + 1)), false),
            (format!("wisp.test/a:{}", "b".repeat(129)), false),
        ] {
            assert_eq!(parse(&text), text.parse::<Reference>());
            assert_eq!(parse(&text).is_ok(), fits, "{text}");
        }
        let error = reference(&"a".repeat(1 << 20)).unwrap_err().to_string();
        assert!(error.contains("255 characters") && error.len() < 2 * MAX_NAME, "{error}");
    }

    #[test]
    fn a_tag_is_of_letters_that_registries_take() {
        // The crate takes any letter of Unicode.
        assert_eq!(parse("wisp.test/a:é"), Err(ParseError::ReferenceInvalidFormat));
    }
}

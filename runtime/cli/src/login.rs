//! `wisp login` and `wisp logout`: who a registry is told that this is, kept where docker keeps it.

use std::io::{self, IsTerminal, Read, Write};

use anyhow::{Context, Result, anyhow, bail, ensure};
use wisp_registry::{Credential, Credentials, Error, Kept, Options, Registry};

use crate::registry::{Progress, Remote};

/// No password is longer.
const MOST_PASSWORD: u64 = 64 * 1024;

/// The command line of `wisp login`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// The user; asked for on a terminal
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Take the password, or a token that is used as one, from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    remote: Remote,
    /// The registry
    #[arg(value_name = "HOST[:PORT]")]
    host: String,
}

/// The command line of `wisp logout`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "HOST[:PORT]")]
    host: String,
}

/// Logs in: what the registry accepts is kept.
///
/// # Errors
/// One sentence: above all where the registry refuses the user or the password.
pub(crate) fn login(args: LoginArgs, out: &mut impl Write) -> Result<()> {
    let host = host(&args.host);
    let (user, password) = ask(args.username, args.password_stdin)?;
    let credential = Some(Credential::Login { user: user.clone(), password: password.clone() });
    let options = Options { credential, ..args.remote.options(Progress::new().watch()) };
    Registry::at(host, &options)?.check().map_err(|error| match error {
        Error::Unauthorized { host, detail, .. } => anyhow!("{host} refuses this user and password{detail}"),
        other => other.into(),
    })?;
    if let Kept::File(path) = Credentials::of_user().keep(host, &user, &password)? {
        let path = path.display();
        writeln!(
            io::stderr(),
            "wisp: the password is kept unencrypted in {path}; a credential helper (credsStore there) would encrypt it"
        )?;
    }
    writeln!(out, "Login Succeeded")?;
    Ok(())
}

/// Logs out: what was kept is forgotten. Without a login there is nothing to do.
///
/// # Errors
/// Where what is kept cannot be changed.
pub(crate) fn logout(args: &LogoutArgs, out: &mut impl Write) -> Result<()> {
    let host = host(&args.host);
    match Credentials::of_user().forget(host)? {
        Some(_) => writeln!(out, "Removing login credentials for {host}")?,
        None => writeln!(out, "Not logged in to {host}")?,
    }
    Ok(())
}

/// docker takes an address in place of a host too.
fn host(text: &str) -> &str {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    text.split('/').next().unwrap_or(text)
}

fn ask(user: Option<String>, password_stdin: bool) -> Result<(String, String)> {
    if password_stdin {
        let user = user.context("--password-stdin wants the user with it: -u USER")?;
        let mut password = String::new();
        io::stdin().take(MOST_PASSWORD).read_to_string(&mut password).context("reading the password")?;
        return Ok((user, full(password.trim_end_matches(['\r', '\n']))?));
    }
    if !io::stdin().is_terminal() {
        bail!(
            "standard input is no terminal to ask for the password on: say --password-stdin and send it there"
        );
    }
    let user = match user {
        Some(user) => user,
        None => prompt("Username: ")?,
    };
    let password = rpassword::prompt_password("Password: ").context("reading the password")?;
    Ok((user, full(&password)?))
}

fn prompt(question: &str) -> Result<String> {
    write!(io::stderr(), "{question}")?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn full(password: &str) -> Result<String> {
    ensure!(!password.is_empty(), "the password is empty, expected one");
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_its_host() {
        for text in
            ["r.example:5000", "https://r.example:5000", "http://r.example:5000/v2/", "r.example:5000/team"]
        {
            assert_eq!(host(text), "r.example:5000", "{text}");
        }
    }
}

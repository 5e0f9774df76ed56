//! The one place where Wasmtime's engines are configured.
//!
//! What `wisp-compiler` compiles under a [`Profile`], `wisp-guest` loads under the same one; Wasmtime refuses code whose
//! settings differ. So nothing about a pod is in a profile, and both sides read this table.

mod profiles;

#[cfg(feature = "runtime")]
mod run;

pub use profiles::Profile;
#[cfg(feature = "runtime")]
pub use run::{Demands, runner};
pub use wasmtime::{Config, Engine, Error};

/// The version of Wasmtime that compiled code belongs to.
pub const WASMTIME: &str = "48.0.8";

/// An engine that compiles under `profile`.
///
/// # Errors
/// Wasmtime's, if the profile does not suit this machine.
#[cfg(feature = "compiler")]
pub fn compiler(profile: Profile) -> Result<Engine, Error> {
    let mut config = profile.config();
    config
        .cranelift_opt_level(profile.optimization())
        // Nothing unwinds through compiled code with the system's unwinder; Wasmtime's own backtraces do not need it.
        .native_unwind_info(matches!(profile, Profile::Profile))
        .parallel_compilation(true);
    Engine::new(&config)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_recorded_version_of_wasmtime_is_the_one_that_is_linked() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        let linked = lock.lines().skip_while(|line| *line != "name = \"wasmtime\"").nth(1);
        assert_eq!(linked, Some(format!("version = \"{}\"", super::WASMTIME).as_str()));
    }
}

//! The engine profiles, and what each means in Wasmtime's terms.

use std::fmt;
use std::str::FromStr;

use wasmtime::{Collector, Config, WasmBacktraceDetails};
use wisp_contract::facts::Kind;

/// A named set of engine settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// For what runs to completion: full optimization and no interruption points, because a signal ends the process.
    Fast,
    /// For HTTP services: as [`Profile::Fast`], with epoch checks so that one request can be interrupted.
    Service,
    /// For HTTP services of WASI 0.2: as [`Profile::Service`], without what the tasks, streams and futures of 0.3 need, which
    /// costs each call time whether they are used or not.
    Service02,
    /// For looking for mistakes: little optimization, so that backtraces show every frame.
    Debug,
    /// For profilers: as [`Profile::Fast`], with symbols and native unwind tables.
    Profile,
    /// For processes with a small address space (39 bits, strict overcommit): memories are not reserved in advance.
    SmallVa,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 6] =
        [Self::Fast, Self::Service, Self::Service02, Self::Debug, Self::Profile, Self::SmallVa];

    /// The profile for a program of `kind` when nobody asked for another.
    #[must_use]
    pub fn for_kind(kind: Kind) -> Self {
        match kind {
            Kind::Http02 => Self::Service02,
            Kind::Http03 => Self::Service,
            _ => Self::Fast,
        }
    }

    /// The name by which a profile is asked for and recorded.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Service => "service",
            Self::Service02 => "service-0.2",
            Self::Debug => "debug",
            Self::Profile => "profile",
            Self::SmallVa => "small-va",
        }
    }

    /// The profile for a program of this profile's that the profile cannot hold.
    #[must_use]
    pub fn wider(self) -> Option<Self> {
        // What is of WASI 0.2 by its exports may use the component model of 0.3 within.
        (self == Self::Service02).then_some(Self::Service)
    }

    /// Whether code of this profile checks epochs, and so needs a deadline set before it runs.
    #[must_use]
    pub fn has_epochs(self) -> bool {
        // The profiles that may be asked for a service as well as for a command must be interruptible.
        !matches!(self, Self::Fast)
    }

    /// The settings that compiled code and the process that runs it must have in common.
    #[must_use]
    pub fn config(self) -> Config {
        let mut config = Config::new();
        config
            // `Config::new` takes this one from the environment: always overwrite it.
            .wasm_backtrace_details(self.backtraces())
            .epoch_interruption(self.has_epochs())
            .debug_symbols(matches!(self, Self::Profile))
            .collector(Collector::Copying)
            .wasm_component_model(true)
            .wasm_component_model_async(self != Self::Service02)
            .concurrency_support(self != Self::Service02)
            .memory_init_cow(true)
            .signals_based_traps(true);
        if self == Self::SmallVa {
            config
                .memory_reservation(0)
                .memory_guard_size(64 << 10)
                .memory_reservation_for_growth(1 << 20)
                .gc_heap_reservation(0)
                .gc_heap_guard_size(64 << 10)
                .gc_heap_reservation_for_growth(1 << 20);
        }
        config
    }

    /// Lines of source in backtraces make compiled code several times larger, and what a trap prints too long for the
    /// end of the log that Kubernetes shows; function names are in every backtrace.
    fn backtraces(self) -> WasmBacktraceDetails {
        match self {
            Self::Debug | Self::Profile => WasmBacktraceDetails::Enable,
            Self::Fast | Self::Service | Self::Service02 | Self::SmallVa => WasmBacktraceDetails::Disable,
        }
    }

    #[cfg(feature = "compiler")]
    pub(crate) fn optimization(self) -> wasmtime::OptLevel {
        match self {
            Self::Debug => wasmtime::OptLevel::None,
            Self::Fast | Self::Service | Self::Service02 | Self::Profile | Self::SmallVa => {
                wasmtime::OptLevel::Speed
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("there is no engine profile {name:?}; use one of {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        assert!("fastest".parse::<Profile>().unwrap_err().contains("small-va"));
    }

    #[test]
    fn services_are_interruptible_and_commands_pay_nothing_for_it() {
        assert!(Profile::for_kind(Kind::Http02).has_epochs());
        assert!(Profile::for_kind(Kind::Http03).has_epochs());
        assert!(!Profile::for_kind(Kind::Command02).has_epochs());
        assert!(!Profile::for_kind(Kind::Module).has_epochs());
    }
}

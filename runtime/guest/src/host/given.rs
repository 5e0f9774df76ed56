//! Holds [`wisp_contract::given`] against what is linked.

use std::collections::BTreeSet;

use wasmtime::component::{Linker, ResourceType};
use wasmtime::{Engine, Store, StoreContextMut};
use wisp_contract::given;

use super::{Guest, linker, module_linker};

/// A function or resource of each interface, by which it is found; interfaces that are not here have nothing but plain types.
const MEMBERS: &[(&str, &str)] = &[
    ("wasi:cli/environment", "get-environment"),
    ("wasi:cli/exit", "exit"),
    ("wasi:cli/stderr", "get-stderr"),
    ("wasi:cli/stderr", "write-via-stream"),
    ("wasi:cli/stdin", "get-stdin"),
    ("wasi:cli/stdin", "read-via-stream"),
    ("wasi:cli/stdout", "get-stdout"),
    ("wasi:cli/stdout", "write-via-stream"),
    ("wasi:cli/terminal-input", "terminal-input"),
    ("wasi:cli/terminal-output", "terminal-output"),
    ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
    ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
    ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
    ("wasi:clocks/monotonic-clock", "now"),
    ("wasi:clocks/system-clock", "now"),
    ("wasi:clocks/wall-clock", "now"),
    ("wasi:filesystem/preopens", "get-directories"),
    ("wasi:filesystem/types", "descriptor"),
    ("wasi:http/client", "send"),
    ("wasi:http/outgoing-handler", "handle"),
    ("wasi:http/types", "fields"),
    ("wasi:io/error", "error"),
    ("wasi:io/poll", "poll"),
    ("wasi:io/streams", "input-stream"),
    ("wasi:random/insecure", "get-insecure-random-u64"),
    ("wasi:random/insecure-seed", "get-insecure-seed"),
    ("wasi:random/insecure-seed", "insecure-seed"),
    ("wasi:random/random", "get-random-u64"),
    ("wasi:sockets/instance-network", "instance-network"),
    ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
    ("wasi:sockets/network", "network"),
    ("wasi:sockets/tcp", "tcp-socket"),
    ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
    ("wasi:sockets/types", "tcp-socket"),
    ("wasi:sockets/udp", "udp-socket"),
    ("wasi:sockets/udp-create-socket", "create-udp-socket"),
];

/// Interfaces without functions and resources: whoever imports them gets nothing.
const TYPES_ALONE: &[&str] = &["wasi:cli/types", "wasi:clocks/types"];

/// Whether the linker has this already: it cannot be defined again.
fn is_defined(linker: &mut Linker<Guest>, interface: &str, member: &str) -> bool {
    let mut instance = linker.instance(interface).unwrap();
    let function = instance.func_wrap(member, |_: StoreContextMut<'_, Guest>, (): ()| Ok(()));
    let resource = instance.resource(member, ResourceType::host::<()>(), |_, _| Ok(()));
    // The one of them that succeeded has taken the name for the other.
    function.is_err() && resource.is_err()
}

fn every_interface_is_linked(version: &str, interfaces: &[&str]) {
    let imports: Vec<_> = interfaces.iter().map(|interface| format!("{interface}@{version}")).collect();
    let mut linker = linker(&Engine::default(), &imports).unwrap();
    for (interface, import) in interfaces.iter().zip(&imports) {
        assert!(given::to_components(import), "{import}");
        let members = MEMBERS.iter().filter(|(of, _)| of == interface);
        let is_linked = members.clone().any(|(_, member)| is_defined(&mut linker, import, member));
        assert!(is_linked || TYPES_ALONE.contains(interface), "{import} is not linked");
    }
    assert!(!is_defined(&mut linker, &format!("wasi:cli/stdout@{version}"), "no-such-function"));
}

#[test]
fn every_interface_of_wasi_0_2_that_is_told_is_linked() {
    every_interface_is_linked("0.2.12", given::WASI_0_2);
}

#[test]
fn every_interface_of_wasi_0_3_that_is_told_is_linked() {
    every_interface_is_linked("0.3.0", given::WASI_0_3);
}

#[test]
fn the_functions_of_wasi_0_1_that_are_told_are_those_that_are_linked() {
    let engine = Engine::default();
    let linker = module_linker(&engine).unwrap();
    let budget = crate::budget::Budget::new(None, wisp_contract::counters::Counters::private());
    let guest = super::ModuleGuest {
        wasi: wasmtime_wasi::WasiCtxBuilder::new().build_p1(),
        budget: crate::budget::StoreBudget::new(&budget),
    };
    let mut store = Store::new(&engine, guest);
    let linked: BTreeSet<_> = linker
        .iter(&mut store)
        .map(|(module, name, _)| format!("{module}::{name}"))
        .filter(|name| name.starts_with("wasi_snapshot_preview1::"))
        .collect();
    let told = given::WASI_0_1.iter().map(|name| format!("wasi_snapshot_preview1::{name}")).collect();
    assert_eq!(linked, told);
}

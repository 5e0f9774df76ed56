//! A program of anybody's: any bytes are either one that is understood or a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let is_wasm = wisp_reader::unless_wasm(bytes).is_ok();
    let read = wisp_reader::read(bytes, wisp_reader::features());
    let parts = wisp_reader::parts(bytes);
    assert!(is_wasm || read.is_err(), "what is no Wasm was read as a program");
    if let Ok(parts) = parts {
        let longest = parts.sections.iter().map(|part| part.bytes).max().unwrap_or_default();
        assert!(longest <= bytes.len() as u64, "a section is longer than the program");
    }
});

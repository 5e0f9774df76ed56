//! What a registry's 401 asks for: any headers are either a challenge to answer or a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wisp_registry::Challenge;

// One header a line.
fuzz_target!(|text: &str| {
    let headers: Vec<_> = text.lines().collect();
    match Challenge::of(&headers) {
        Ok(Challenge::Basic) => assert!(text.to_lowercase().contains("basic"), "nobody asked for a password"),
        Ok(Challenge::Bearer { .. }) => assert!(text.to_lowercase().contains("realm"), "a realm of nobody's"),
        Err(reason) => {
            assert!(!reason.contains(char::is_control), "not one sentence: {reason:?}");
            assert!(reason.len() < 4096, "a sentence as long as what came");
        }
    }
});

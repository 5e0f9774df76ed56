//! The node's configuration and a pod's annotations: any text is either understood or refused.
#![no_main]

use std::collections::HashMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wisp_config::{Config, DRAIN_DELAY};

fuzz_target!(|text: &str| {
    let config = Config::parse(Path::new("config.toml"), text).unwrap_or_default();
    let annotations = HashMap::from([(DRAIN_DELAY.to_owned(), text.to_owned())]);
    if let Ok(settings) = config.http_settings(&annotations) {
        assert!(u128::from(settings.drain_delay_ms) <= config.policy.max_drain_delay.as_millis());
    }
});

//! What a pod may ask for with annotations, within what the node's policy allows.

use std::collections::HashMap;
use std::time::Duration;

use wisp_contract::plan::HttpSettings;

use crate::Config;

/// How long an HTTP service goes on accepting after SIGTERM, for example `"5s"`.
pub const DRAIN_DELAY: &str = "wisp.dev/drain-delay";

/// How many requests one instance of a WASI 0.2 service may serve, for example `"1000"`.
pub const REQUESTS_PER_INSTANCE: &str = "wisp.dev/requests-per-instance";

/// Every annotation that means something to Wisp begins so.
const PREFIX: &str = "wisp.dev/";

/// Why a pod's annotations are refused.
#[derive(Debug, thiserror::Error)]
pub enum AnnotationError {
    /// The name is not one of ours, and would silently do nothing.
    #[error("the annotation {0} is not known; the ones that are: {DRAIN_DELAY}, {REQUESTS_PER_INSTANCE}")]
    Unknown(String),
    /// The value cannot be read.
    #[error("the annotation {name} is {value:?}, expected {expected}")]
    Bad {
        /// The annotation.
        name: &'static str,
        /// Its value.
        value: String,
        /// What a value looks like.
        expected: &'static str,
    },
    /// The node's policy does not allow it.
    #[error(
        "the annotation {name} asks for {asked}, and this node allows {allowed} ({key} in /etc/wisp/config.toml)"
    )]
    Policy {
        /// The annotation.
        name: &'static str,
        /// What was asked.
        asked: String,
        /// The bound.
        allowed: String,
        /// The key that sets the bound.
        key: &'static str,
    },
}

impl Config {
    /// How an HTTP service serves in a container with these annotations.
    ///
    /// # Errors
    /// [`AnnotationError`] names the annotation.
    pub fn http_settings(
        &self,
        annotations: &HashMap<String, String>,
    ) -> Result<HttpSettings, AnnotationError> {
        let mut settings = self.http.settings();
        for (name, value) in annotations.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            match name.as_str() {
                DRAIN_DELAY => settings.drain_delay_ms = self.drain_delay(value)?,
                REQUESTS_PER_INSTANCE => {
                    settings.requests_per_instance = self.requests_per_instance(value)?;
                }
                _ => return Err(AnnotationError::Unknown(name.clone())),
            }
        }
        Ok(settings)
    }

    fn drain_delay(&self, value: &str) -> Result<u64, AnnotationError> {
        let asked: Duration = value.parse::<humantime_serde::re::humantime::Duration>().map_or_else(
            |_| {
                let expected = "a duration such as \"5s\" or \"500ms\"";
                Err(AnnotationError::Bad { name: DRAIN_DELAY, value: value.into(), expected })
            },
            |duration| Ok(duration.into()),
        )?;
        let allowed = self.policy.max_drain_delay;
        if asked > allowed {
            return Err(AnnotationError::Policy {
                name: DRAIN_DELAY,
                asked: format!("{asked:?}"),
                allowed: format!("at most {allowed:?}"),
                key: "policy.max_drain_delay",
            });
        }
        Ok(u64::try_from(asked.as_millis()).unwrap_or(u64::MAX))
    }

    fn requests_per_instance(&self, value: &str) -> Result<u32, AnnotationError> {
        let name = REQUESTS_PER_INSTANCE;
        let asked = value.parse::<u32>().ok().filter(|asked| *asked > 0).ok_or_else(|| {
            AnnotationError::Bad { name, value: value.into(), expected: "a number such as \"1000\"" }
        })?;
        let allowed = self.policy.max_requests_per_instance;
        if asked > allowed {
            return Err(AnnotationError::Policy {
                name,
                asked: asked.to_string(),
                allowed: format!("at most {allowed}"),
                key: "policy.max_requests_per_instance",
            });
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain_delay(name: &str, value: &str) -> Result<u64, String> {
        let annotations =
            HashMap::from([(name.to_owned(), value.to_owned()), ("other/x".into(), "1".into())]);
        let settings = Config::default().http_settings(&annotations).map_err(|error| error.to_string())?;
        Ok(settings.drain_delay_ms)
    }

    #[test]
    fn a_pod_sets_its_own_drain_delay_within_the_policy() {
        assert_eq!(drain_delay(DRAIN_DELAY, "5s"), Ok(5_000));
        let error = drain_delay(DRAIN_DELAY, "1h").unwrap_err();
        assert!(error.contains("allows at most 60s (policy.max_drain_delay"), "{error}");
    }

    #[test]
    fn a_pod_lets_its_instances_serve_more_requests_within_the_policy() {
        let requests = |config: &Config, value: &str| {
            let annotations = HashMap::from([(REQUESTS_PER_INSTANCE.to_owned(), value.to_owned())]);
            let settings = config.http_settings(&annotations).map_err(|error| error.to_string())?;
            Ok::<_, String>(settings.requests_per_instance)
        };
        let mut config = Config::default();
        assert_eq!(config.http.settings().requests_per_instance, 1, "who asks for nothing");
        assert_eq!(requests(&config, "1000"), Ok(1000));
        assert!(requests(&config, "0").unwrap_err().contains("expected a number"));
        config.policy.max_requests_per_instance = 1;
        assert!(
            requests(&config, "2")
                .unwrap_err()
                .contains("allows at most 1 (policy.max_requests_per_instance")
        );
    }

    #[test]
    fn an_annotation_that_would_do_nothing_is_refused() {
        assert!(drain_delay("wisp.dev/drain-dealy", "5s").unwrap_err().contains("is not known"));
        assert!(drain_delay(DRAIN_DELAY, "soon").unwrap_err().contains("\"soon\", expected a duration"));
    }
}

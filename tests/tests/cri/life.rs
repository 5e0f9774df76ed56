//! How the containers of a pod begin, print and end.

use anyhow::ensure;
use wisp_tests::cri::node::Node;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Pods:
    a_container_runs_and_its_log_is_in_cris_format,
];

fn a_container_runs_and_its_log_is_in_cris_format(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    ensure!(pod.ready()?);
    pod.container(&["/native", "hello"]).run()?.code(0, "Completed")?.stdout("hello from Rust, native\n")?;
    Ok(())
}

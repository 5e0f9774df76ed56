//! `guests NAME FILE`: writes the image with all guests that the Kubernetes tests run, as an archive that `kind load
//! image-archive`, `ctr images import` and `oras` take.

use std::env;
use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let name = args.next().context("guests NAME FILE: the image's name is missing")?;
    let file = args.next().context("guests NAME FILE: the file to write is missing")?;
    wisp_tests::kube::world::guests(&name)?.write(Path::new(&file))
}

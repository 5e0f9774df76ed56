//! How guests begin and end.

use anyhow::ensure;
use wisp_tests::Outcome;
use wisp_tests::bed::Bed;
use wisp_tests::cases;
use wisp_tests::suite::Case;
use wisp_tests::task::Container;

pub(crate) const CASES: &[Case] = cases![Shared:
    a_guest_that_returns_exits_0,
    a_guest_that_exits_with_a_code_exits_with_it,
    arguments_reach_the_guest_unchanged,
];

fn a_guest_that_returns_exits_0(bed: &Bed) -> Outcome {
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm", "/rust-0.3.wasm"] {
        Container::new(bed, &[program, "hello"])?.run()?.code(0)?;
    }
    Ok(())
}

fn a_guest_that_exits_with_a_code_exits_with_it(bed: &Bed) -> Outcome {
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm", "/rust-0.3.wasm"] {
        Container::new(bed, &[program, "exit", "7"])?.run()?.code(7)?;
    }
    Ok(())
}

fn arguments_reach_the_guest_unchanged(bed: &Bed) -> Outcome {
    let odd = ["one", "", "two words", "ünïcödé", "--flag=x"];
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm", "/rust-0.3.wasm"] {
        let ended = Container::new(bed, &[&[program, "args"], &odd[..]].concat())?.run()?.code(0)?;
        ensure!(ended.stdout.lines().eq(odd), "{:?}", ended.stdout);
    }
    Ok(())
}

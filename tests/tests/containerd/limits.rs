//! Limits that are real, and guests that do not mean well.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use wisp_tests::bed::{Bed, LIMIT, Options, eventually};
use wisp_tests::image::Image;
use wisp_tests::net::{Load, curl, get, workers};
use wisp_tests::space::Cache;
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, WISP};
use wisp_tests::{Outcome, cases};

use crate::http::serving;

pub(crate) const CASES: &[Case] = cases![Shared:
    memory_that_the_limit_refuses_is_seen_by_a_guest_that_asks,
    a_guest_that_ignores_its_limit_traps_with_a_message_that_names_it,
    a_service_over_its_limit_goes_on,
    a_kernel_oom_kill_exits_137_after_an_oom_event,
    a_lowered_limit_reaches_the_guest,
    a_services_threads_follow_its_quota_and_no_request_is_lost,
    a_hostile_guest_reaches_nothing,
    a_hostile_guest_reaches_nothing_through_a_proc_of_the_host,
    a_guest_of_ten_thousand_functions_runs,
    a_guest_of_four_gibibytes_of_declared_memory_runs_or_is_refused,
    a_guest_of_a_million_table_entries_runs_or_is_refused,
    a_guest_of_a_hundred_megabytes_of_data_runs_or_is_refused,
];

pub(crate) const OWN_CASES: &[Case] = cases![Own:
    a_cache_on_a_full_disk_costs_a_warning,
    a_cache_on_a_read_only_disk_costs_a_warning,
    a_cache_on_a_noexec_disk_costs_a_warning,
];

/// The number in "refused after N MiB".
fn refused_after(output: &str) -> Result<u64> {
    let number = output.split("refused after ").nth(1).and_then(|rest| rest.split(' ').next());
    number.context("no \"refused after\"")?.parse().with_context(|| output.to_owned())
}

fn memory_that_the_limit_refuses_is_seen_by_a_guest_that_asks(bed: &Bed) -> Outcome {
    for program in &["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        let ended = Container::new(bed, &[program, "grow"])?.runtime(WISP).memory(64).run()?.code(0)?;
        let got = refused_after(&ended.stdout)?;
        ensure!((16..64).contains(&got), "{program} of 64 MiB got {got} MiB");
    }
    Ok(())
}

fn a_guest_that_ignores_its_limit_traps_with_a_message_that_names_it(bed: &Bed) -> Outcome {
    for program in &["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        let ended = Container::new(bed, &[program, "alloc"])?.runtime(WISP).memory(64).run()?.code(134)?;
        ended.stderr_has("64 MiB").or_else(|_| anyhow::bail!("the limit of 64 MiB is not named"))?;
    }
    Ok(())
}

fn a_service_over_its_limit_goes_on(bed: &Bed) -> Outcome {
    let (task, pid) = serving(bed, "/http-0.2.wasm", &["--memory-limit", "100663296"])?;
    let args = ["--output", "/dev/null", "--write-out", "%{http_code}", "http://127.0.0.1:8080/alloc?200"];
    let status = curl(pid, &args)?.stdout;
    ensure!(status == "507", "the guest was to see that it gets no memory, and answered {status}");
    ensure!(get(pid, "/alloc?8")? == "8\n");
    task.kill(Signal::SIGTERM)?;
    task.wait()?.code(0)?;
    Ok(())
}

fn a_kernel_oom_kill_exits_137_after_an_oom_event(bed: &Bed) -> Outcome {
    // A file on a tmpfs is memory that no runtime can refuse.
    let scratch = ["--mount", "type=tmpfs,src=tmpfs,dst=/scratch,options=rw"];
    let args = ["/rust-0.2.wasm", "fill-file", "/scratch/file", "256"];
    let task = Container::new(bed, &args)?.runtime(WISP).flags(&scratch).memory(48).start()?;
    let id = task.id.clone();
    task.wait()?.code(137)?;
    bed.events().wait(&id, "", "/tasks/exit", LIMIT)?;
    let topics: Vec<_> = bed.events().of(&id).into_iter().map(|event| event.topic).collect();
    let at = |topic: &str| topics.iter().position(|one| one == topic);
    ensure!(at("/tasks/oom").is_some() && at("/tasks/oom") < at("/tasks/exit"), "{topics:?}");
    Ok(())
}

fn a_lowered_limit_reaches_the_guest(bed: &Bed) -> Outcome {
    let (task, pid) = serving(bed, "/http-0.2.wasm", &["--memory-limit", "536870912"])?;
    ensure!(get(pid, "/alloc?100")? == "100\n");
    // The kernel refuses a limit below what is in use, and the instance of an answered request is there for a moment yet.
    let (client, lowered) = (task.client()?, serde_json::json!({"memory": {"limit": 96 << 20}}));
    eventually("the lowered limit", LIMIT, || Ok(client.update(&task.id, &lowered).ok()))?;
    let args = ["--output", "/dev/null", "--write-out", "%{http_code}", "http://127.0.0.1:8080/alloc?100"];
    let status = curl(pid, &args)?.stdout;
    ensure!(status == "507", "answered {status}");
    task.kill(Signal::SIGTERM)?;
    task.wait()?.code(0)?;
    Ok(())
}

fn a_services_threads_follow_its_quota_and_no_request_is_lost(bed: &Bed) -> Outcome {
    let machine = std::thread::available_parallelism()?.get();
    ensure!(
        machine > 1,
        "this machine has one processor; a service that can have two threads was to be seen"
    );
    // A retired pool of threads stays for as long as a request may take.
    let (task, pid) = serving(bed, "/http-0.2.wasm", &["--cpus", "1"])?;
    ensure!(
        workers(pid)? == 0,
        "one processor is served by one thread, and there are {} more",
        workers(pid)?
    );
    let load = Load::start(pid, 4, "/hello")?;
    for (quota, threads) in [(200_000, 2), (100_000, 0), (200_000, 2)] {
        let limits = serde_json::json!({"cpu": {"quota": quota, "period": 100_000}});
        task.client()?.update(&task.id, &limits)?;
        // Those that were replaced are still there.
        eventually("the threads of the quota", LIMIT, || Ok((workers(pid)? >= threads).then_some(())))?;
        std::thread::sleep(Duration::from_millis(200)); // the time in which requests might be lost
    }
    ensure!(load.stop()? > 4, "the service did not answer");
    ensure!(workers(pid)? <= 4, "{} threads for two processors", workers(pid)?);
    task.kill(Signal::SIGTERM)?;
    task.wait()?.code(0)?;
    Ok(())
}

fn reaches_nothing(container: Container<'_>) -> Outcome {
    let ended = container.runtime(WISP).run()?.code(0)?;
    ensure!(!ended.stdout.contains("REACHED"), "{}", ended.stdout);
    ensure!(ended.stdout.contains("probed"), "{}", ended.stdout);
    Ok(())
}

fn a_hostile_guest_reaches_nothing(bed: &Bed) -> Outcome {
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        reaches_nothing(Container::new(bed, &[program, "probe"])?)?;
        reaches_nothing(Container::new(bed, &[program, "probe"])?.flags(&["--privileged"]))?;
    }
    Ok(())
}

fn a_hostile_guest_reaches_nothing_through_a_proc_of_the_host(bed: &Bed) -> Outcome {
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        for options in ["rbind,rw", "bind,ro"] {
            reaches_nothing(Container::new(bed, &[program, "probe"])?.bind("/proc", "/hostproc", options))
                .with_context(|| format!("{program} with /proc mounted {options}"))?;
        }
    }
    Ok(())
}

fn image_of(bed: &Bed, name: &str, program: Vec<u8>) -> Result<Image> {
    let image = Image::new(&format!("wisp.test/{name}:1")).file("/large.wasm", program);
    bed.import(&image, &[])?;
    Ok(image)
}

/// Runs, or is refused with one sentence; and the node still runs others.
fn runs_or_is_refused(bed: &Bed, name: &str, program: Vec<u8>) -> Outcome {
    let image = image_of(bed, name, program)?;
    for mebibytes in [64, 512] {
        let container =
            Container::of_image(bed, image.name(), &["/large.wasm"]).runtime(WISP).memory(mebibytes);
        let ended = container.run().with_context(|| format!("with {mebibytes} MiB"))?;
        match ended.code {
            0 => {}
            // Refused once it runs, or before.
            134 => ensure!(!ended.stderr.trim().is_empty(), "a trap without a word"),
            _ => drop(ended.refused().with_context(|| format!("with {mebibytes} MiB"))?),
        }
    }
    Container::new(bed, &["/rust-0.2.wasm"])?.runtime(WISP).run()?.code(0)?;
    Ok(())
}

fn a_guest_of_ten_thousand_functions_runs(bed: &Bed) -> Outcome {
    let functions: String = (0..10_000)
        .map(|index| {
            format!("(func $f{index} (param i32) (result i32) (i32.add (local.get 0) (i32.const {index})))")
        })
        .collect();
    let calls: String = (0..10_000).map(|index| format!("(drop (call $f{index} (i32.const 1)))")).collect();
    let module =
        format!(r#"(module {functions} (func (export "_start") {calls}) (memory (export "memory") 1))"#);
    let image = image_of(bed, "functions", wat::parse_str(module)?)?;
    Container::of_image(bed, image.name(), &["/large.wasm"]).runtime(WISP).run()?.code(0)?;
    Ok(())
}

fn a_guest_of_four_gibibytes_of_declared_memory_runs_or_is_refused(bed: &Bed) -> Outcome {
    let module = r#"(module (memory (export "memory") 65536) (func (export "_start") (i32.store (i32.const 4096) (i32.const 1))))"#;
    runs_or_is_refused(bed, "memory", wat::parse_str(module)?)
}

fn a_guest_of_a_million_table_entries_runs_or_is_refused(bed: &Bed) -> Outcome {
    let module = r#"(module (table 1000000 funcref) (func $start (export "_start")) (elem (i32.const 999999) $start)
        (memory (export "memory") 1))"#;
    runs_or_is_refused(bed, "table", wat::parse_str(module)?)
}

fn a_guest_of_a_hundred_megabytes_of_data_runs_or_is_refused(bed: &Bed) -> Outcome {
    let data = "x".repeat(100 << 20);
    let module = format!(
        r#"(module (memory (export "memory") 1700) (data (i32.const 0) "{data}")
            (func (export "_start") (if (i32.ne (i32.load8_u (i32.const 104857599)) (i32.const 120)) (then unreachable))))"#
    );
    runs_or_is_refused(bed, "data", wat::parse_str(module)?)
}

fn costs_a_warning(version: &'static str, flags: MsFlags, options: &str) -> Outcome {
    let cache = Some(Cache::Tmpfs(flags, options.to_owned()));
    let bed = Bed::start_with(version, Options { cache, ..Options::default() })?;
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        let ended = Container::new(&bed, &[program])?.runtime(WISP).run()?.code(0)?;
        ensure!(ended.stdout.starts_with("hello"), "{ended:?}");
    }
    let log = fs::read_to_string(bed.folder.join("containerd.log"))?;
    let warned = log.lines().any(|line| line.contains("level=warning") && line.contains("cache"));
    ensure!(warned, "containerd's log has no warning that names the cache:\n{}", bed.log_tail("wisp"));
    Ok(())
}

fn a_cache_on_a_full_disk_costs_a_warning(version: &'static str) -> Outcome {
    costs_a_warning(version, MsFlags::empty(), "size=16k")
}

fn a_cache_on_a_read_only_disk_costs_a_warning(version: &'static str) -> Outcome {
    costs_a_warning(version, MsFlags::MS_RDONLY, "size=16m")
}

fn a_cache_on_a_noexec_disk_costs_a_warning(version: &'static str) -> Outcome {
    costs_a_warning(version, MsFlags::MS_NOEXEC, "size=64m")
}

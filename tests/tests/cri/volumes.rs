//! The volumes of a container.

use std::fs;

use anyhow::ensure;
use wisp_tests::bed::GUESTS;
use wisp_tests::cri::api::{ImageSpec, Mount};
use wisp_tests::cri::node::{Node, Variant};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Pods:
    a_volume_is_shared_and_each_container_has_its_own_right_to_write,
    a_volume_in_memory_is_shared,
];

pub(crate) const OF_2: &[Case] = cases![PodsWhere where Variant::is_2:
    an_image_is_a_volume,
];

fn a_volume_is_shared_and_each_container_has_its_own_right_to_write(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let folder = node.bed.folder.join(node.bed.id("volume"));
    fs::create_dir_all(&folder)?;
    let programs = super::life::PROGRAMS;
    for (writer, reader) in programs.into_iter().zip(programs.into_iter().cycle().skip(1)) {
        let write = |readonly| {
            let spec = pod.container(&[writer, "write", "/volume/note", &format!("by {writer}")]);
            spec.mount(&folder, "/volume", readonly).run()
        };
        let _ = fs::remove_file(folder.join("note"));
        write(true)?.code(1, "Error")?;
        ensure!(!folder.join("note").exists(), "{writer} wrote into a read-only volume");
        write(false)?.code(0, "Completed")?;
        let read = pod.container(&[reader, "cat", "/volume/note"]).mount(&folder, "/volume", true).run()?;
        ensure!(read.code(0, "Completed")?.printed().trim_end() == format!("by {writer}"));
    }
    Ok(())
}

fn a_volume_in_memory_is_shared(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let memory = node.memory_volume("16m")?;
    pod.container(&["/rust-0.2.wasm", "write", "/memory/note", "text"])
        .mount(memory.path(), "/memory", false)
        .run()?
        .code(0, "Completed")?;
    let read =
        pod.container(&["/native", "cat", "/memory/note"]).mount(memory.path(), "/memory", false).run()?;
    ensure!(read.code(0, "Completed")?.printed().trim_end() == "text");
    Ok(())
}

fn an_image_is_a_volume(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let mount = Mount {
        container_path: "/image".into(),
        readonly: true,
        image: Some(ImageSpec { image: GUESTS.into(), ..Default::default() }),
        ..Default::default()
    };
    for program in super::life::PROGRAMS {
        let spec = |args: &[&str]| pod.container(args).with(|config| config.mounts.push(mount.clone()));
        spec(&[program, "cat", "/image/data/greeting.txt"])
            .run()?
            .code(0, "Completed")?
            .stdout("a file of the image\n")?;
        spec(&[program, "write", "/image/data/file", "x"]).run()?.code(1, "Error")?;
    }
    Ok(())
}

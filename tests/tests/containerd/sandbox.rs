//! What a guest's process is to the kernel, and which files and networks a guest has.

use std::fs;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::Bed;
use wisp_tests::image::Image;
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, Task, WISP};
use wisp_tests::{Outcome, cases, net, site};

pub(crate) const CASES: &[Case] = cases![Shared:
    a_guest_process_is_in_namespaces_and_a_control_group_of_its_own,
    a_guest_process_has_no_privileges_to_speak_of,
    a_guest_runs_as_the_user_of_the_image,
    a_guest_runs_under_containerds_seccomp_profile,
    a_read_only_root_is_not_written,
    a_mount_has_its_own_right_to_write,
    a_mounted_file_is_a_file,
    a_folder_mounted_below_another_is_itself,
    a_guest_connects_and_listens,
    a_guest_exchanges_datagrams,
    names_are_resolved_by_the_pods_own_hosts_and_name_server,
    a_guest_fetches_a_page,
    a_guest_fetches_a_page_over_tls_with_roots_of_its_own,
    a_network_of_its_own_has_a_loopback,
];

fn waiting<'a>(bed: &'a Bed, flags: &[&str]) -> Result<Task<'a>> {
    let task =
        Container::new(bed, &["/rust-0.2.wasm", "echo"])?.runtime(WISP).flags(flags).stdin().start()?;
    task.until("reading")?;
    Ok(task)
}

/// A line of `/proc/<pid>/status`.
fn status(pid: u32, name: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.with_context(|| format!("no {name}"))?.trim().to_owned())
}

fn a_guest_process_is_in_namespaces_and_a_control_group_of_its_own(bed: &Bed) -> Outcome {
    let task = waiting(bed, &[])?;
    let pid = task.pid()?;
    for namespace in ["mnt", "net", "pid", "ipc", "uts"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        ensure!(link(&pid.to_string())? != link("self")?, "the {namespace} namespace is the machine's");
    }
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(groups.contains(&format!("/{}/{}", bed.namespace, task.id)), "{groups}");
    task.wait()?.code(0)?;
    Ok(())
}

fn a_guest_process_has_no_privileges_to_speak_of(bed: &Bed) -> Outcome {
    let task = waiting(bed, &[])?;
    let pid = task.pid()?;
    ensure!(status(pid, "NoNewPrivs")? == "1");
    ensure!(status(pid, "Seccomp")? == "2", "no seccomp filter");
    // The spec's, of which these may be kept: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, NET_BIND_SERVICE and the like.
    let effective = u64::from_str_radix(&status(pid, "CapEff")?, 16)?;
    for (name, bit) in
        [("SYS_ADMIN", 21), ("SYS_PTRACE", 19), ("MKNOD", 27), ("SETUID", 7), ("SYS_CHROOT", 18)]
    {
        ensure!(effective & (1 << bit) == 0, "a guest process has CAP_{name}");
    }
    task.wait()?.code(0)?;
    Ok(())
}

fn a_guest_runs_as_the_user_of_the_image(bed: &Bed) -> Outcome {
    let image = Image::new("wisp.test/user:1")
        .file_of("/guest.wasm", site::guest("rust-0.2.wasm")?)
        .folder("/open", 0o777)
        .folder("/closed", 0o700)
        .config("User", serde_json::json!("1234:4321"));
    bed.import(&image, &[])?;
    let run = |args: &[&str]| {
        Container::of_image(bed, image.name(), &[&["/guest.wasm"], args].concat()).runtime(WISP).stdin()
    };
    let task = run(&["echo"]).start()?;
    task.until("reading")?;
    let pid = task.pid()?;
    ensure!(status(pid, "Uid")? == "1234\t1234\t1234\t1234", "{}", status(pid, "Uid")?);
    ensure!(status(pid, "Gid")? == "4321\t4321\t4321\t4321", "{}", status(pid, "Gid")?);
    task.wait()?.code(0)?;
    run(&["write", "/open/file", "text"]).run()?.code(0)?;
    run(&["write", "/closed/file", "text"]).run()?.code(1)?;
    Ok(())
}

fn a_guest_runs_under_containerds_seccomp_profile(bed: &Bed) -> Outcome {
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm", "/rust-0.3.wasm"] {
        Container::new(bed, &[program])?.runtime(WISP).flags(&["--seccomp"]).run()?.code(0)?;
    }
    Ok(())
}

fn a_read_only_root_is_not_written(bed: &Bed) -> Outcome {
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        let write = [program, "write", "/tmp/file", "text"];
        Container::new(bed, &write)?.runtime(WISP).run()?.code(0)?;
        Container::new(bed, &write)?.runtime(WISP).flags(&["--read-only"]).run()?.code(1)?;
        Container::new(bed, &[program, "ls", "/data"])?
            .runtime(WISP)
            .flags(&["--read-only"])
            .run()?
            .code(0)?
            .stdout("greeting.txt\n")?;
    }
    Ok(())
}

/// A new folder of this machine.
fn folder(bed: &Bed) -> Result<std::path::PathBuf> {
    let folder = bed.folder.join(bed.id("mount"));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn a_mount_has_its_own_right_to_write(bed: &Bed) -> Outcome {
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        let source = folder(bed)?;
        let path = source.display().to_string();
        let write = |text: &str| Container::new(bed, &[program, "write", "/mounted/file", text]);
        write("one")?
            .runtime(WISP)
            .flags(&["--read-only"])
            .bind(&path, "/mounted", "rbind,rw")
            .run()?
            .code(0)?;
        ensure!(fs::read_to_string(source.join("file"))? == "one");
        write("two")?.runtime(WISP).bind(&path, "/mounted", "rbind,ro").run()?.code(1)?;
        ensure!(fs::read_to_string(source.join("file"))? == "one", "a read-only mount was written");
        Container::new(bed, &[program, "cat", "/mounted/file"])?
            .runtime(WISP)
            .bind(&path, "/mounted", "rbind,ro")
            .run()?
            .code(0)?
            .stdout("one")?;
    }
    Ok(())
}

fn a_mounted_file_is_a_file(bed: &Bed) -> Outcome {
    let source = folder(bed)?.join("source");
    fs::write(&source, "of the host")?;
    let path = source.display().to_string();
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        let cat = Container::new(bed, &[program, "cat", "/data/mounted.txt"])?;
        cat.runtime(WISP)
            .bind(&path, "/data/mounted.txt", "bind,ro")
            .run()?
            .code(0)?
            .stdout("of the host")?;
    }
    Ok(())
}

fn a_folder_mounted_below_another_is_itself(bed: &Bed) -> Outcome {
    let (outer, inner) = (folder(bed)?, folder(bed)?);
    fs::create_dir(outer.join("inner"))?;
    fs::write(outer.join("inner/hidden"), "")?;
    fs::write(inner.join("seen"), "")?;
    for program in ["/rust-0.1.wasm", "/rust-0.2.wasm"] {
        let list = Container::new(bed, &[program, "ls", "/outer/inner"])?.runtime(WISP);
        let list = list.bind(&outer.display().to_string(), "/outer", "rbind,rw");
        list.bind(&inner.display().to_string(), "/outer/inner", "rbind,rw")
            .run()?
            .code(0)?
            .stdout("seen\n")?;
    }
    Ok(())
}

/// A command of the WASI 0.2 guest in the network of the bed.
fn in_the_beds_network<'a>(bed: &'a Bed, args: &[&str]) -> Result<Container<'a>> {
    Ok(Container::new(bed, &[&["/rust-0.2.wasm"], args].concat())?.runtime(WISP).flags(&["--net-host"]))
}

fn a_guest_connects_and_listens(bed: &Bed) -> Outcome {
    net::serve(&bed.space, "127.0.0.1:7002", net::line_echo)?;
    let ended = in_the_beds_network(bed, &["connect", "127.0.0.1:7002", "hello"])?.run()?;
    ended.code(0)?.stdout("connected\nhello\n")?;

    let task = Container::new(bed, &["/rust-0.2.wasm", "listen", "0.0.0.0:7003"])?.runtime(WISP).start()?;
    task.until("listening")?;
    ensure!(net::talk(task.pid()?, 7003, "to the guest")? == "to the guest");
    task.wait()?.code(0)?;
    Ok(())
}

fn a_guest_exchanges_datagrams(bed: &Bed) -> Outcome {
    net::serve_datagrams(&bed.space, "127.0.0.1:7004", "127.0.0.1:7005")?;
    in_the_beds_network(bed, &["datagram", "127.0.0.1:7004", "hello"])?.run()?.code(0)?.stdout("hello\n")?;
    Ok(())
}

fn names_are_resolved_by_the_pods_own_hosts_and_name_server(bed: &Bed) -> Outcome {
    net::serve_datagrams(&bed.space, "127.0.0.1:7006", "127.0.0.1:53")?;
    let folder = folder(bed)?;
    fs::write(folder.join("hosts"), "127.0.0.1 localhost\n10.9.8.7 in.hosts\n")?;
    fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\nsearch cluster.test\n")?;
    let path = |name: &str| folder.join(name).display().to_string();
    // Not --net-host, which brings the machine's own two files.
    let network = format!("network:/proc/{}/ns/net", bed.pid()?);
    for (name, address) in [("in.hosts", "10.9.8.7\n"), ("anything.example", "10.1.2.3\n")] {
        let container = Container::new(bed, &["/rust-0.2.wasm", "resolve", name])?.runtime(WISP);
        let container =
            container.flags(&["--with-ns", &network]).bind(&path("hosts"), "/etc/hosts", "rbind,ro");
        let ended =
            container.bind(&path("resolv.conf"), "/etc/resolv.conf", "rbind,ro").run().context(name)?;
        ended.code(0)?.stdout(address)?;
    }
    Ok(())
}

fn a_guest_fetches_a_page(bed: &Bed) -> Outcome {
    net::serve(&bed.space, "127.0.0.1:7007", net::http_echo)?;
    let ended = in_the_beds_network(bed, &["fetch", "http://127.0.0.1:7007/page"])?.run()?;
    ended.code(0)?.stdout("200\nGET /page HTTP/1.1\r\n")?;
    let ended = in_the_beds_network(bed, &["fetch", "http://127.0.0.1:7999/page"])?.run()?;
    ended.code(1)?.stderr_has("fetch")?;
    Ok(())
}

/// For a certificate that vouches for itself and for nobody else.
const CERTIFICATE_REQUEST: &str = "[req]\ndistinguished_name = name\nx509_extensions = extensions\n[name]\n[extensions]\n\
    basicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:localhost,IP:127.0.0.1\n";

fn a_guest_fetches_a_page_over_tls_with_roots_of_its_own(bed: &Bed) -> Outcome {
    let folder = folder(bed)?;
    let path = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    fs::write(folder.join("request"), CERTIFICATE_REQUEST)?;
    let mut make = std::process::Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    make.args(["-keyout", &key, "-out", &certificate, "-config", &path("request"), "-subj", "/CN=localhost"]);
    wisp_tests::process::run(&mut make, wisp_tests::bed::LIMIT)?.success()?;
    let mut server = bed.space.command("openssl");
    server.args([
        "s_server",
        "-quiet",
        "-accept",
        "127.0.0.1:7443",
        "-www",
        "-key",
        &key,
        "-cert",
        &certificate,
    ]);
    let _server = wisp_tests::process::Server::start(server)?;
    net::until_listening(&bed.space, "127.0.0.1:7443")?;

    let url = ["fetch", "https://127.0.0.1:7443/"];
    let refused = in_the_beds_network(bed, &url)?.run()?;
    refused.code(1)?; // nobody vouches for it
    let trusting = in_the_beds_network(bed, &url)?.flags(&["--env", "SSL_CERT_FILE=/roots.pem"]);
    let ended = trusting.bind(&certificate, "/roots.pem", "bind,ro").run()?.code(0)?;
    ensure!(ended.stdout.starts_with("200\n"), "{ended:?}");
    Ok(())
}

fn a_network_of_its_own_has_a_loopback(bed: &Bed) -> Outcome {
    let task = Container::new(bed, &["/rust-0.2.wasm", "listen", "127.0.0.1:7008"])?.runtime(WISP).start()?;
    task.until("listening")?;
    ensure!(net::talk(task.pid()?, 7008, "x")? == "x");
    task.wait()?.code(0)?;
    Ok(())
}

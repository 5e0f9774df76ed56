//! The images that the suite pulls, made of Debian's busybox: what it asks of them is theirs, and nothing else.

use std::process::Command;

use anyhow::Result;
use serde_json::json;
use wisp_tests::bed::LIMIT;
use wisp_tests::cri::registry::Registry;
use wisp_tests::image::Image;
use wisp_tests::{process, site};

/// All but one that is named by the digest of what its own registry has.
pub(super) fn all(registry: &Registry<'_>) -> Result<Vec<Image>> {
    let end_to_end = |name: &str| registry.name(&format!("e2e-test-images/{name}"));
    let own = |name: &str| registry.name(&format!("k8s-staging-cri-tools/{name}"));
    let user = |name: &str, user: &str| {
        Ok::<_, anyhow::Error>(
            busybox(&own(&format!("test-image-{name}:latest")))?.config("User", json!(user)),
        )
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut images = vec![
        busybox(&end_to_end("busybox:1.29-2"))?,
        web_server(&end_to_end("nginx:1.14-2"), 80)?,
        web_server(&end_to_end("httpd:2.4.39-4"), 80)?,
        web_server(&own(&format!("hostnet-nginx-{architecture}:latest")), 12003)?,
        effective(&end_to_end("nonewprivs:1.3"))?,
        busybox(&registry.name("pause:3.9"))?,
        user("user-uid", "1002")?,
        user("user-username", "www-data")?,
        user("user-uid-group", "1003:www-data")?,
        user("user-username-group", "www-data:www-data")?,
        user("predefined-group", "1000")?,
        busybox(&own("test-image-latest:latest"))?,
        busybox(&own("test-image-tag:test"))?,
        busybox(&own("test-image-tag:all"))?,
    ];
    for number in 1..=3 {
        images.push(busybox(&own(&format!("test-image-tags:{number}")))?);
        images
            .push(busybox(&own(&format!("test-image-{number}:latest")))?.file("/number", number.to_string()));
    }
    Ok(images)
}

const USERS: &str = "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n\
                     default-user:x:1000:1000::/:/bin/sh\n";
const GROUPS: &str =
    "root:x:0:\nwww-data:x:33:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n";
/// What Debian's busybox does not have, and `ls` as a file of its own, over which something is mounted.
const SCRIPTS: [(&str, &str); 3] = [
    ("/bin/ls", "#!/bin/sh\nexec busybox ls \"$@\"\n"),
    ("/bin/pgrep", "#!/bin/sh\nexec pidof \"$@\"\n"),
    ("/bin/ipcs", "#!/bin/sh\nexec cat /proc/sysvipc/shm\n"),
];

fn busybox(name: &str) -> Result<Image> {
    let program = site::busybox()?;
    let applets = process::run(Command::new(&program).arg("--list"), LIMIT)?.success()?;
    let links = applets.lines().filter(|applet| !["busybox", "ls"].contains(applet));
    let image = Image::new(name)
        .config("Cmd", json!(["sh"]))
        .folder("/tmp", 0o1777)
        .folder("/root", 0o700)
        .folder("/var/run", 0o755)
        .file("/etc/passwd", USERS)
        .file("/etc/group", GROUPS)
        .file_of("/bin/busybox", program);
    let image = links.fold(image, |image, applet| image.link(&format!("/bin/{applet}"), "busybox"));
    Ok(SCRIPTS.into_iter().fold(image, |image, (path, script)| image.file(path, script)))
}

/// What passes for nginx and for httpd: a page at a port, a process with nginx's name and its first argument, whose id is in a
/// file, and a line of log.
fn web_server(name: &str, port: u16) -> Result<Image> {
    let server = format!("#!/bin/sh\necho httpd\necho $$ >/var/run/nginx.pid\nhttpd -f -p {port} -h /www\n");
    Ok(busybox(name)?
        .config("Cmd", json!(["/bin/nginx", "master process"]))
        .file("/bin/nginx", server)
        .file("/www/index.html", "a page\n"))
}

fn effective(name: &str) -> Result<Image> {
    Ok(Image::new(name)
        .config("Entrypoint", json!(["/effective"]))
        .setuid_file_of("/effective", site::guest("effective")?))
}

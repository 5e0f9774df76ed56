#!/usr/bin/env bash
# package.sh: what `make build` has built as packages, in target/dist/: a tar archive, a Debian package, and SHA256SUMS. The same
# programs make the same packages, to the byte, for one SOURCE_DATE_EPOCH (by default the last commit's time).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
dist=$target/dist
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
machine=$(uname -m)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
rm -rf "$dist"
mkdir -p "$dist"

make --no-print-directory install DESTDIR="$root" PREFIX=/usr >/dev/null
wisp=$root/usr/bin/wisp
install -d "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d,doc/wisp}
"$wisp" completions bash >"$root/usr/share/bash-completion/completions/wisp"
"$wisp" completions zsh >"$root/usr/share/zsh/vendor-completions/_wisp"
"$wisp" completions fish >"$root/usr/share/fish/vendor_completions.d/wisp.fish"
install -m 644 LICENSE "$root/usr/share/doc/wisp/copyright"
install -m 644 README.md CHANGELOG.md "$root/usr/share/doc/wisp/"

tar --create --gzip --file "$dist/wisp-$version-linux-$machine.tar.gz" --directory "$root" --sort=name --owner=0 --group=0 \
  --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" usr

install -d "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: wisp
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: the maintainers of Wisp
Section: admin
Priority: optional
Installed-Size: $(du --summarize --block-size=1024 "$root/usr" | cut -f1)
Recommends: containerd, runc
Description: runs WebAssembly as ordinary containers and Kubernetes pods
 A containerd shim, an OCI runtime and a command line, all static. The package changes nothing of the node:
 "wisp install" gives containerd the handler, and "wisp doctor" looks at what there is.
CONTROL
dpkg-deb --root-owner-group --build "$root" "$dist/wisp_${version}_$(dpkg --print-architecture).deb" >/dev/null

cd "$dist"
sha256sum -- * >SHA256SUMS
ls -l

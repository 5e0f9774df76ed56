#!/usr/bin/env bash
# package.sh [MACHINE FOLDER]: what `make build` has built as packages, in target/dist/: a tar archive, a Debian package,
# for each program what it is made of (an SBOM in the form of CycloneDX), and SHA256SUMS of all that is there. For another machine
# than this one, its programs are in FOLDER, and run here by qemu-user. The same programs make the same packages, to the byte, for
# one SOURCE_DATE_EPOCH (by default the last commit's time), by which cargo-cyclonedx dates what it writes.
set -euo pipefail
# Whoever makes the package, everybody can read what is in it.
umask 022
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
dist=$target/dist
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
machine=${1:-$(uname -m)}
built=${2:-$target/release}
case $machine in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) echo "there are packages for x86_64 and aarch64, not for $machine" >&2; exit 1 ;;
esac
emulator=()
[ "$machine" = "$(uname -m)" ] || emulator=(scripts/foreign.sh "$machine")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
install -d -m 755 "$root"
mkdir -p "$dist"
rm -f "$dist"/SHA256SUMS "$dist"/*-linux-"$machine".{tar.gz,cdx.json} "$dist"/wisp_*_"$architecture".deb

make --no-print-directory install BUILT="$built" DESTDIR="$root" PREFIX=/usr >/dev/null
# One that does not run on its machine is no package.
for program in containerd-shim-wisp-v1 wisp-runtime; do "${emulator[@]}" "$root/usr/bin/$program" --version >/dev/null; done
wisp=("${emulator[@]}" "$root/usr/bin/wisp")
install -d "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d,doc/wisp}
"${wisp[@]}" completions bash >"$root/usr/share/bash-completion/completions/wisp"
"${wisp[@]}" completions zsh >"$root/usr/share/zsh/vendor-completions/_wisp"
"${wisp[@]}" completions fish >"$root/usr/share/fish/vendor_completions.d/wisp.fish"
install -d "$root/usr/share/man/man1"
"${wisp[@]}" man "$root/usr/share/man/man1"
gzip --best --no-name "$root"/usr/share/man/man1/*
install -m 644 LICENSE README.md CHANGELOG.md "$root/usr/share/doc/wisp/"

tar --create --gzip --file "$dist/wisp-$version-linux-$machine.tar.gz" --directory "$root" --sort=name --owner=0 --group=0 \
  --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" usr

scripts/debian.sh "$root" "$version" "$architecture" "$dist/wisp_${version}_$architecture.deb"

# It is written beside the sources, and so beside those of the last commit. The build's own path tells nobody anything.
mkdir "$work/source"
git archive HEAD | tar --extract --directory "$work/source"
(cd "$work/source" && cargo cyclonedx --quiet --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps \
  --target "$machine-unknown-linux-musl")
for program in "$root"/usr/bin/* "$root"/usr/libexec/wisp/*; do
  program=${program##*/}
  find "$work/source" -name "${program}_bin.cdx.json" -exec sed "s|file://$work/source|file://|g" {} + \
    >"$dist/$program-$version-linux-$machine.cdx.json"
done

cd "$dist"
sha256sum -- * >SHA256SUMS
ls -l

#!/usr/bin/env bash
# Builds what the bench compares with into $WISP_BED (/var/cache/wisp-bed):
#
#   $WISP_BED/wasmtime/   Wasmtime's own command, of the version that Wisp has, static, without what the bench does not use
#
# What is there and was made from the same version is left alone. Needs Rust; takes about ten minutes of two processors.
. "$(dirname "$0")/lib.sh"

version=$(awk '/^name = "wasmtime"$/ {found = 1} found && /^version/ {gsub(/"/, "", $3); print $3; exit}' "$here/../../Cargo.lock")
features=run,serve,compile,component-model,component-model-async,cranelift,parallel-compilation,pooling-allocator

# The C library is the machine's, as in what Wasmtime releases, and linked in: the command runs in an image of its own.
wasmtime() {
  local root=$bed/wasmtime.new
  say "building wasmtime $version (about ten minutes from cold)"
  RUSTFLAGS='-C target-feature=+crt-static' cargo install wasmtime-cli --version "$version" --locked --quiet \
    --no-default-features --features "$features" --target "$(uname -m)-unknown-linux-gnu" \
    --target-dir "$root/target" --root "$root" --no-track --force
  strip "$root/bin/wasmtime"
  rm -r "$root/target"
}

[ -n "$version" ] || die "Cargo.lock has no package wasmtime"
lock
cached wasmtime "$version $features" wasmtime
say "wasmtime $version is in $bed"

#!/usr/bin/env bash
# Builds the guests, each with its language's own toolchain, into OUT (target/guests):
#
#   rust-0.1.wasm rust-0.2.wasm rust-0.3.wasm   commands by WASI version       c.wasm go.wasm   commands of WASI 0.1
#   http-0.2.wasm http-0.3.wasm http-js.wasm    services on wasi:http          native           rust-0.2's source for Linux
#   pause effective                             a pod's native holder; what prints whose rights it has
#
#   speed.wasm speed-service.wasm               programs that compute, for the bench alone (tests/bench/guest)
#
#   build.sh [rust|c|go|js|speed]…     all but the last without an argument
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
out=${OUT:-$target/guests}
mkdir -p "$out"
out=$(cd "$out" && pwd)

need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || { echo "guests: $1 is not on PATH; install $2 ('make tools' does on Debian)" >&2; exit 1; }
}

# Copies only what changed, so that images made of the guests stay the same.
put() { cmp -s "$1" "$out/$2" || cp "$1" "$out/$2"; }

rust() {
  need cargo Rust
  local build=$out/build
  cd "$here/rust"
  export CARGO_TARGET_DIR=$build
  cargo build --release --locked --quiet -p command --target wasm32-wasip1
  cargo build --release --locked --quiet -p command --target "$(uname -m)-unknown-linux-musl"
  cargo build --release --locked --quiet --workspace --target wasm32-wasip2
  put "$build/wasm32-wasip1/release/command.wasm" rust-0.1.wasm
  put "$build/wasm32-wasip2/release/command.wasm" rust-0.2.wasm
  put "$build/wasm32-wasip2/release/command3.wasm" rust-0.3.wasm
  put "$build/wasm32-wasip2/release/service.wasm" http-0.2.wasm
  put "$build/wasm32-wasip2/release/service3.wasm" http-0.3.wasm
  put "$build/$(uname -m)-unknown-linux-musl/release/command" native
}

c() {
  need clang-14 'clang-14, lld-14, wasi-libc and libclang-rt-14-dev-wasm32'
  clang-14 --target=wasm32-wasi -Os -Wall -Wextra -o "$out/c.wasm.new" "$here/c/hello.c"
  put "$out/c.wasm.new" c.wasm
  rm "$out/c.wasm.new"
  need musl-gcc musl-tools
  local native
  for native in pause effective; do
    musl-gcc -static -s -Os -Wall -Wextra -o "$out/$native.new" "$here/c/$native.c"
    put "$out/$native.new" "$native"
    rm "$out/$native.new"
  done
}

go_() {
  need go Go
  (cd "$here/go" && GOOS=wasip1 GOARCH=wasm go build -buildvcs=false -trimpath -ldflags='-s -w' -o "$out/go.wasm" .)
}

js() {
  need npm 'Node.js and npm'
  cd "$here/js"
  local made=$out/http-js.wasm sources
  # By content: in a new checkout all files are new.
  sources=$(sha256sum service.js build.mjs package-lock.json)
  [ -s "$made" ] && [ "$(cat "$made.sources" 2>/dev/null)" = "$sources" ] && return
  npm ci --silent
  node build.mjs "$made"
  echo "$sources" >"$made.sources"
}

speed() {
  need cargo Rust
  cd "$here/../bench/guest"
  CARGO_TARGET_DIR=$out/build cargo build --release --locked --quiet --target wasm32-wasip2
  put "$out/build/wasm32-wasip2/release/speed.wasm" speed.wasm
  put "$out/build/wasm32-wasip2/release/speed-service.wasm" speed-service.wasm
}

languages=("$@")
[ $# -gt 0 ] || languages=(rust c go js)
for language in "${languages[@]}"; do
  [ "$language" = go ] && language=go_
  ("$language")
done

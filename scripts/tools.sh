#!/usr/bin/env bash
# tools.sh build|test|kubernetes|demo|cross: installs from Debian what that needs and the machine lacks; one clear sentence where it cannot.
set -euo pipefail

build=(musl-tools protobuf-compiler)
test=("${build[@]}" pkg-config gcc libc6-dev libseccomp-dev iproute2 util-linux curl openssl nftables
  clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32 nodejs npm skopeo buildah podman)
kubernetes=("${test[@]}" mmdebstrap e2fsprogs patchelf openssh-client libc++-14-dev-wasm32 libc++abi-14-dev-wasm32 python3-pip)
demo=("${build[@]}" curl util-linux iproute2)
cross=("${build[@]}" gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static util-linux)

die() { echo "$*" >&2; exit 1; }

# A package whose program came another way (Node.js) is not missing.
missing() {
  case $1 in
    nodejs) command -v node >/dev/null && return 1 ;;
    python3-pip) python3 -m pip --version >/dev/null 2>&1 && return 1 ;;
    npm | curl | gcc | openssl) command -v "$1" >/dev/null && return 1 ;;
  esac
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" != installed ]
}

command -v cargo >/dev/null ||
  { [ -x "$HOME/.cargo/bin/cargo" ] && die "Rust is installed but not on PATH; run: . \"\$HOME/.cargo/env\""; } ||
  die "Rust is not installed; install it from https://rustup.rs and run this again"
command -v rustup >/dev/null ||
  die "cargo is there but rustup is not, which adds the toolchain and targets that Wisp builds with; install it from https://rustup.rs"

case ${1:-} in
  build) wanted=("${build[@]}") ;;
  test | kubernetes)
    wanted=("${test[@]}")
    [ "$1" = test ] || wanted=("${kubernetes[@]}")
    command -v go >/dev/null || die "Go is not on PATH, and builds the containerds that the tests run; install it from https://go.dev/dl"
    ;;
  demo) wanted=("${demo[@]}") ;;
  cross) wanted=("${cross[@]}") ;;
  *) die "tools.sh build|test|kubernetes|demo|cross, not '${1:-}'" ;;
esac

lacking=()
for package in "${wanted[@]}"; do
  if missing "$package"; then lacking+=("$package"); fi
done
if [ ${#lacking[@]} -gt 0 ]; then
  hint="this needs ${lacking[*]}"
  command -v apt-get >/dev/null || die "$hint, and only Debian's names are known here; install your system's own"
  [ "$(id -u)" = 0 ] || die "$hint; run as root: apt-get install ${lacking[*]}"
  echo "installing ${lacking[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  { apt-get update && apt-get install -y --no-install-recommends "${lacking[@]}"; } >"$log" 2>&1 </dev/null ||
    { tail -n 20 "$log" >&2; die "apt-get could not install ${lacking[*]}"; }
  rm "$log"
fi

# rustup brings the toolchain of rust-toolchain.toml with its targets by itself, but neither where it was told not to
# (RUSTUP_AUTO_INSTALL=0) nor for a toolchain that was there before.
targets=("$(uname -m)-unknown-linux-musl")
case $1 in
  build) ;;
  cross) targets+=(aarch64-unknown-linux-musl) ;;
  *) targets+=(wasm32-wasip1 wasm32-wasip2) ;;
esac
rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install >&2
installed=$(rustup target list --installed)
for target in "${targets[@]}"; do
  grep -qx "$target" <<<"$installed" || rustup target add "$target" >&2
done

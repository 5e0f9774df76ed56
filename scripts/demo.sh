#!/usr/bin/env bash
# `make demo`: Wasm under a containerd of its own, in namespaces and folders of its own that are gone afterwards. Needs root. Takes
# containerd from PATH, or unpacks Debian's for the time of the demonstration.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$checkout/target}

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[1;32m' blue=$'\e[1;36m' plain=$'\e[0m'
else
  bold='' dim='' green='' blue='' plain=''
fi
title() { printf '\n%s== %s%s\n' "$blue" "$*" "$plain"; }
say() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
die() { echo "$*" >&2; exit 1; }

if [ -z "${WISP_DEMO:-}" ]; then
  [ "$(id -u)" = 0 ] || die 'the demonstration runs a containerd, which only root can: sudo make demo'
  if ! command -v containerd >/dev/null || ! command -v ctr >/dev/null; then
    say "containerd is not installed; unpacking Debian's for the time of the demonstration"
    packages=$(mktemp -d /tmp/wisp-demo-packages.XXXXXX)
    trap 'rm -rf "$packages"' EXIT
    download() { (cd "$packages" && apt-get -qq -o APT::Sandbox::User=root download containerd runc) 2>/dev/null; }
    download || { apt-get -qq update && download; } ||
      die "Debian's containerd cannot be downloaded; install containerd and run this again"
    for package in "$packages"/*.deb; do dpkg -x "$package" "$packages"; done
    export PATH=$packages/usr/bin:$packages/usr/sbin:$PATH
  fi
  # A private network, so that port 8080 is free, and private mounts, which vanish with the demonstration.
  WISP_DEMO=1 unshare --mount --net --propagation slave "$0"
  exit
fi

work=$(mktemp -d /tmp/wisp-demo.XXXXXX)
namespace=$(basename "$work" | tr . -)
made_cache=; [ -d /var/cache/wisp ] || made_cache=1
containerd_pid=

cleanup() {
  local status=$? id group
  trap - EXIT
  if [ -n "$containerd_pid" ]; then
    for id in $(ctr task ls --quiet 2>/dev/null); do ctr task rm --force "$id" >/dev/null 2>&1 || true; done
    kill "$containerd_pid" && wait "$containerd_pid" || true
  fi
  for group in /sys/fs/cgroup/*/"$namespace" /sys/fs/cgroup/"$namespace"; do
    [ ! -d "$group" ] || rmdir "$group" 2>/dev/null || true
  done
  umount --lazy "$work" /var/cache/wisp 2>/dev/null || true
  rmdir "$work" 2>/dev/null || true
  [ -z "$made_cache" ] || rmdir /var/cache/wisp 2>/dev/null || true
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir -p /var/cache/wisp
mount -t tmpfs tmpfs "$work"
mount -t tmpfs tmpfs /var/cache/wisp
mount -t tmpfs tmpfs /run
ip link set lo up

title 'A containerd of our own'
# The shim is found on PATH; here as `make build` left it, after `make install` in /usr/local/bin.
export PATH=$target/release:$PATH
cat >"$work/config.toml" <<T
version = 2
root = "$work/root"
state = "$work/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
address = "$work/containerd.sock"
T
export CONTAINERD_ADDRESS=$work/containerd.sock CONTAINERD_NAMESPACE=$namespace CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1
containerd --config "$work/config.toml" >"$work/containerd.log" 2>&1 &
containerd_pid=$!
for _ in $(seq 200); do
  ctr version >/dev/null 2>&1 && break
  kill -0 "$containerd_pid" 2>/dev/null || { tail "$work/containerd.log" >&2; die 'containerd did not start'; }
  sleep 0.05
done
containerd --version

# show COMMAND…: prints it and runs it; an exit code other than 0 is part of the show.
show() {
  local status=0 word line=
  for word; do case $word in *' '*) line+=" '$word'" ;; *) line+=" $word" ;; esac; done
  printf '%s$ %s%s%s%s\n' "$green" "$plain" "$bold" "${line# }" "$plain"
  "$@" || status=$?
  [ "$status" = 0 ] || say "(exit code $status)"
}
# await COMMAND…: waits for something that nothing tells of.
await() { for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; die "this did not come true: $*"; }

for guest in rust-0.1 rust-0.2 http-0.2; do cp "$target/guests/$guest.wasm" "$work/"; done
mv "$work/rust-0.1.wasm" "$work/command.wasm"; mv "$work/rust-0.2.wasm" "$work/component.wasm"; mv "$work/http-0.2.wasm" "$work/service.wasm"
for guest in command component service; do
  "$checkout/scripts/image.sh" "$work/$guest.tar" "wisp.dev/$guest:1" "$work/$guest.wasm"
  ctr images import "$work/$guest.tar" >/dev/null
done
say "three images, each with one Wasm file in it, were made by scripts/image.sh and imported by \`ctr images import\`"
run=(ctr run --rm --runtime io.containerd.wisp.v1)

title 'A Rust command (WASI 0.1), like any container'
show "${run[@]}" wisp.dev/command:1 hello
show "${run[@]}" --env GREETING=hello wisp.dev/command:1 env /command.wasm env GREETING
show "${run[@]}" wisp.dev/command:1 code /command.wasm exit 7

title 'A component (WASI 0.2)'
show "${run[@]}" wisp.dev/component:1 component

title 'A trap explains itself: exit code 134 and a backtrace with names'
show "${run[@]}" wisp.dev/component:1 trap /component.wasm trap divide

title 'An HTTP service (wasi:http), answered with curl'
show ctr run --detach --net-host --null-io --runtime io.containerd.wisp.v1 wisp.dev/service:1 service
await curl --silent --fail http://127.0.0.1:8080/hello
show curl --silent http://127.0.0.1:8080/hello
show curl --silent --data 'to the guest and back' http://127.0.0.1:8080/echo; echo
show ctr task ls

title 'A program beside it in the same container'
cp "$work/command.wasm" "$work/shared.wasm"
show ctr run --detach --null-io --runtime io.containerd.wisp.v1 --mount "type=bind,src=$work/shared.wasm,dst=/tools/command.wasm,options=bind:ro" \
  wisp.dev/component:1 sleeper /component.wasm sleep 600
show ctr task exec --exec-id one sleeper /tools/command.wasm hello
show ctr task metrics sleeper

title 'A graceful stop: the request that is under way is answered, then the service exits 0'
curl --silent --output /dev/null --write-out 'the request that was under way: %{http_code}\n' 'http://127.0.0.1:8080/slow?1000' &
request=$!
await sh -c "ss --no-header --tcp state established '( sport = :8080 )' | grep -q ."
show ctr task kill --signal SIGTERM service
wait "$request"
await sh -c 'ctr task ls | grep -q "service .*STOPPED"'
show ctr task ls
show ctr task rm service
show ctr task kill --signal SIGTERM sleeper
await sh -c 'ctr task ls | grep -q "sleeper .*STOPPED"'
ctr task rm sleeper >/dev/null 2>&1 || true # exits with the task's own code
ctr container rm service sleeper

title 'What to try next'
cat <<T
  make install                        then: ctr run --rm --runtime io.containerd.wisp.v1 IMAGE NAME
  wisp inspect FILE.wasm              what a program is, and what it asks of its host
  k8s/runtimeclass.yaml               and the rest of k8s/: the same in Kubernetes
  make test                           everything of this, and much more, on four versions of containerd
T

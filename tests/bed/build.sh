#!/usr/bin/env bash
# Builds the servers that the tests run, each containerd with its own ctr and runc shim, into $WISP_BED (/var/cache/wisp-bed):
#
#   $WISP_BED/1.6/   containerd 1.6.20 and runc 1.1.5 of Debian 12, unpacked from its packages and not installed
#   $WISP_BED/1.7/   containerd 1.7   \
#   $WISP_BED/2.2/   containerd 2.2    } from the Go modules beside this script
#   $WISP_BED/2.4/   containerd 2.4, runc and the CNI plugins
#
# What is there and was made from the same go.sum is left alone. Needs Go, and for runc libseccomp-dev and pkg-config.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bed=${WISP_BED:-/var/cache/wisp-bed}

say() { printf 'bed: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# one VERSION NAME PACKAGE [flag…]: builds a program of containerd-VERSION/go.mod as NAME
one() {
  local version=$1 name=$2 package=$3; shift 3
  (cd "$here/containerd-$version" &&
    CGO_ENABLED=${CGO:-0} go build -buildvcs=false -trimpath -o "$bed/$version.new/bin/$name" "$@" "$package")
}

containerd() { # VERSION MODULE [flag…]
  local version=$1 module=$2 full name; shift 2
  full=$(cd "$here/containerd-$version" && go list -m -f '{{.Version}}' "$module")
  for name in containerd ctr containerd-shim-runc-v2; do
    one "$version" "$name" "$module/cmd/$name" -ldflags="-s -w -X $module/version.Version=$full" "$@"
  done
}

build_1.7() { containerd 1.7 github.com/containerd/containerd -tags=no_btrfs; }
build_2.2() { containerd 2.2 github.com/containerd/containerd/v2; }
build_2.4() {
  containerd 2.4 github.com/containerd/containerd/v2
  CGO=1 one 2.4 runc github.com/opencontainers/runc -tags=seccomp -ldflags='-s -w'
  local plugin
  for plugin in main/bridge main/loopback ipam/host-local meta/portmap; do
    one 2.4 "cni/${plugin##*/}" "github.com/containernetworking/plugins/plugins/$plugin" -ldflags='-s -w'
  done
}

# Debian's own containerd, for those who have nothing newer; its runc and its shim belong to it.
build_1.6() {
  local packages=$bed/1.6.new/packages package
  mkdir -p "$packages" "$bed/1.6.new/bin"
  for package in containerd runc; do
    (cd "$packages" && apt-get download -qq "$package") ||
      die "Debian's $package cannot be downloaded; run 'apt-get update' on Debian 12, or make $bed/1.6/bin by hand"
  done
  for package in "$packages"/*.deb; do dpkg -x "$package" "$packages/root"; done
  mv "$packages"/root/usr/bin/{containerd,ctr,containerd-shim-runc-v2} "$packages"/root/usr/sbin/runc "$bed/1.6.new/bin/"
  rm -r "$packages"
}

stamp() { # what VERSION is made from
  case $1 in
    1.6) . /etc/os-release && echo "$ID $VERSION_ID" ;;
    *) (cd "$here/containerd-$1" && cat go.mod go.sum && go version) | sha256sum | cut -d' ' -f1 ;;
  esac
}

command -v go >/dev/null || die "Go is not on PATH; install it (https://go.dev/dl) to build the servers that the tests run"
mkdir -p "$bed"
exec 9>"$bed/.lock"
flock 9
for version in 1.6 1.7 2.2 2.4; do
  now=$(stamp $version)
  [ "$(cat "$bed/$version/stamp" 2>/dev/null)" = "$now" ] && continue
  say "building containerd $version (about two minutes from cold)"
  rm -rf "$bed/$version.new"
  "build_$version"
  echo "$now" >"$bed/$version.new/stamp"
  rm -rf "${bed:?}/$version"
  mv "$bed/$version.new" "$bed/$version"
done
say "containerd 1.6, 1.7, 2.2 and 2.4 are in $bed"

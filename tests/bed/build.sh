#!/usr/bin/env bash
# Builds the servers that the tests run, each containerd with its own ctr and runc shim, into $WISP_BED (/var/cache/wisp-bed):
#
#   $WISP_BED/1.6/   containerd 1.6.20 and runc 1.1.5 of Debian 12, unpacked from its packages and not installed
#   $WISP_BED/1.7/   containerd 1.7   \
#   $WISP_BED/2.2/   containerd 2.2    } from the Go modules beside this script
#   $WISP_BED/2.4/   containerd 2.4, runc and the CNI plugins
#   $WISP_BED/kind/  kind's own way to change a node's containerd configuration, and its node's configuration
#   $WISP_BED/k3s/   what renders templates as k3s does
#   $WISP_BED/registry/   Debian's docker-registry, and oras, which Debian has from 13 on
#   $WISP_BED/critest/    critest, Kubernetes' suite for what implements CRI; only where it is asked for (two minutes)
#   $WISP_BED/docker/     docker, dockerd and buildx of Debian 13: those of Debian 12 run no shims but runc's
#
#   build.sh [critest]     all but critest without an argument
#
# What is there and was made from the same go.sum is left alone. Needs Go, and for runc libseccomp-dev and pkg-config.
. "$(dirname "$0")/lib.sh"

# one VERSION NAME PACKAGE [flag…]: builds a program of containerd-VERSION/go.mod as NAME
one() {
  local version=$1 name=$2; shift 2
  go_program "containerd-$version" "$bed/$version.new/bin/$name" "$@"
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
  local root=$bed/1.6.new/root
  debian_package "$root" containerd runc
  mv "$root"/usr/bin/{containerd,ctr,containerd-shim-runc-v2} "$root"/usr/sbin/runc "$bed/1.6.new/bin/"
  rm -r "$root"
}

# kind's code for it is its own alone, so the program is built inside of a copy.
kind() {
  local copy=$bed/kind.new/copy
  cp -r "$(cd "$here/kind" && go mod download && go list -m -f '{{.Dir}}' sigs.k8s.io/kind)" "$copy"
  chmod -R u+w "$copy"
  mkdir "$copy/pkg/patched"
  cp "$here/kind/patched.go" "$copy/pkg/patched/"
  (cd "$copy" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o "$bed/kind.new/bin/kind-patched" ./pkg/patched)
  cp "$copy/images/base/files/etc/containerd/config.toml" "$bed/kind.new/"
  rm -r "$copy"
}

# It is a test of its module, which builds with the versions of its own go.sum.
critest() {
  local copy=$bed/critest.new/copy
  cp -r "$(cd "$here/critest" && go mod download && go list -m -f '{{.Dir}}' sigs.k8s.io/cri-tools)" "$copy"
  chmod -R u+w "$copy"
  (cd "$copy" && CGO_ENABLED=0 go test -c -trimpath -buildvcs=false -ldflags='-s -w' -o "$bed/critest.new/bin/critest" ./cmd/critest)
  rm -r "$copy"
}

k3s() { go_program k3s "$bed/k3s.new/bin/k3s-rendered" . ; }

# Both are ordinary programs, unpacked and not installed. Debian 12's C library is enough for oras.
registry() {
  local root=$bed/registry.new/root
  debian_package "$root" docker-registry
  suite_package trixie "$root" oras
  mv "$root"/usr/bin/{docker-registry,oras} "$bed/registry.new/bin/"
  rm -r "$root"
}

# Debian 12's libraries are enough for these too.
docker() {
  local root=$bed/docker.new/root
  suite_package trixie "$root" docker.io docker-cli docker-buildx
  mv "$root"/usr/sbin/dockerd "$root"/usr/bin/docker "$root"/usr/libexec/docker/cli-plugins/docker-buildx "$bed/docker.new/bin/"
  rm -r "$root"
}

stamp() { # what VERSION is made from
  case $1 in
    1.6) . /etc/os-release && echo "$ID $VERSION_ID" ;;
    *) go_stamp "containerd-$1" ;;
  esac
}

build() {
  say "building containerd $1 (about two minutes from cold)"
  "build_$1"
}

need_go
lock
if [ "${1:-}" = critest ]; then
  cached critest "$(go_stamp critest)" critest
  say "critest is in $bed"
  exit
fi
for version in 1.6 1.7 2.2 2.4; do
  cached $version "$(stamp $version)" build $version
done
cached kind "$(go_stamp kind) $(sha256sum <"$here/kind/patched.go")" kind
cached k3s "$(cat "$here"/k3s/{go.mod,main.go} | sha256sum)" k3s
cached registry "docker-registry, oras of trixie" registry
cached docker "docker.io, docker-cli, docker-buildx of trixie" docker
say "containerd 1.6, 1.7, 2.2 and 2.4 are in $bed"

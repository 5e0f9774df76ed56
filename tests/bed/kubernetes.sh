#!/usr/bin/env bash
# Builds what the Kubernetes tests run, into $WISP_BED (/var/cache/wisp-bed):
#
#   $WISP_BED/kubernetes/   kubelet, API server, controller manager, scheduler, kube-proxy, kubectl and etcd from the Go module
#                           kubernetes/go.mod (eleven minutes on two cores from cold), and Debian's static busybox
#   $WISP_BED/node/         a node with systemd and cgroup v2 under User Mode Linux (node.sh, three minutes)
#
# What is there and was made from the same is left alone.
. "$(dirname "$0")/lib.sh"

kubernetes() {
  local bin=$bed/kubernetes.new/bin version minor flags name
  version=$(cd "$here/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=${version#v1.} minor=${minor%%.*}
  flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
  flags+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
  for name in kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl; do
    go_program kubernetes "$bin/$name" "k8s.io/kubernetes/cmd/$name" -ldflags="$flags"
  done
  go_program kubernetes "$bin/etcd" go.etcd.io/etcd/server/v3 -ldflags='-s -w'
  debian_package "$bed/kubernetes.new/debian" busybox-static
  mv "$bed/kubernetes.new/debian/bin/busybox" "$bin/"
  rm -r "$bed/kubernetes.new/debian"
}

need_go
lock
say "Kubernetes (about eleven minutes on two cores from cold)"
cached kubernetes "$(go_stamp kubernetes)" kubernetes
"$here/node.sh"
say "Kubernetes and its node are in $bed"

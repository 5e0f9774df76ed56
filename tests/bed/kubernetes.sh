#!/usr/bin/env bash
# Builds what the Kubernetes tests run, into $WISP_BED (/var/cache/wisp-bed):
#
#   $WISP_BED/kubernetes/   kubelet, API server, controller manager, scheduler, kube-proxy, kubectl and etcd from the Go module
#                           kubernetes/go.mod (eleven minutes on two cores from cold)
#   $WISP_BED/metrics-server/   metrics-server, from metrics-server/go.mod (ten seconds after the former)
#   $WISP_BED/node/         a node with systemd and cgroup v2 under User Mode Linux (node.sh, three minutes)
#   $WISP_BED/busybox/      Debian's static busybox, for the image that the tests run
#   $WISP_BED/languages/   Zig and componentize-py, which the examples are built with, from PyPI
#   $WISP_BED/wkg/          wkg, which pushes components; only where it is asked for (eight minutes of a processor)
#
#   kubernetes.sh [servers|metrics-server|node|busybox|languages|wkg]…     all but wkg without an argument
#
# What is there and was made from the same is left alone.
. "$(dirname "$0")/lib.sh"

kubernetes() {
  local bin=$bed/kubernetes.new/bin version minor flags name
  say "building Kubernetes (about eleven minutes on two cores from cold)"
  version=$(cd "$here/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=${version#v1.} minor=${minor%%.*}
  flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
  flags+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
  for name in kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl; do
    go_program kubernetes "$bin/$name" "k8s.io/kubernetes/cmd/$name" -ldflags="$flags"
  done
  go_program kubernetes "$bin/etcd" go.etcd.io/etcd/server/v3 -ldflags='-s -w'
}

metrics_server() {
  go_program metrics-server "$bed/metrics-server.new/bin/metrics-server" sigs.k8s.io/metrics-server/cmd/metrics-server -ldflags='-s -w'
}

busybox() {
  debian_package "$bed/busybox.new/debian" busybox-static
  mv "$bed/busybox.new/debian/bin/busybox" "$bed/busybox.new/bin/"
  rm -r "$bed/busybox.new/debian"
}

# Zig is a program beside its library; componentize-py a module of Python, which is not where Python looks for it.
languages_from=(ziglang==0.17.1 componentize-py==0.25.1)
languages() {
  local root=$bed/languages.new
  say "installing ${languages_from[*]}"
  python3 -m pip install --quiet --no-warn-script-location --root-user-action=ignore --target "$root/python" "${languages_from[@]}"
  ln -s ../python/ziglang/zig "$root/bin/zig"
  cat >"$root/bin/componentize-py" <<'END'
#!/bin/sh
python=$(dirname "$0")/../python
PYTHONPATH=$python exec python3 "$python/bin/componentize-py" "$@"
END
  chmod +x "$root/bin/componentize-py"
}

wkg_version=0.16.1
wkg() {
  say "building wkg $wkg_version (eight minutes of a processor)"
  cargo install wkg --version "$wkg_version" --locked --quiet --target-dir "$bed/wkg.new/target" --root "$bed/wkg.new" --no-track --force
  rm -r "$bed/wkg.new/target"
}

lock
[ $# -gt 0 ] || set -- servers metrics-server node busybox languages
for part in "$@"; do
  case $part in
    servers)
      need_go
      cached kubernetes "$(go_stamp kubernetes)" kubernetes
      ;;
    metrics-server)
      need_go
      cached metrics-server "$(go_stamp metrics-server)" metrics_server
      ;;
    node) "$here/node.sh" ;;
    busybox) cached busybox "of this Debian" busybox ;;
    languages) cached languages "${languages_from[*]} $(python3 --version)" languages ;;
    wkg) cached wkg "$wkg_version" wkg ;;
    *) die "kubernetes.sh [servers|metrics-server|node|busybox|languages|wkg]…, not '$part'" ;;
  esac
done
say "what the Kubernetes tests run is in $bed"

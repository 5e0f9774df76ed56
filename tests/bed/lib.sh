# What the scripts that build the testbed share. Sourced, never run: each sets `what`, the name that its messages carry.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bed=${WISP_BED:-/var/cache/wisp-bed}

say() { printf 'bed: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# lock: one build at a time; the descriptor is held until the script ends
lock() {
  mkdir -p "$bed"
  exec 9>"$bed/.lock"
  flock 9
}

# go_program MODULE-FOLDER OUTPUT PACKAGE [flag…]: builds a program of a go.mod beside this script; CGO=1 allows C
go_program() {
  local folder=$1 output=$2 package=$3; shift 3
  (cd "$here/$folder" && CGO_ENABLED=${CGO:-0} go build -buildvcs=false -trimpath -o "$output" "$@" "$package")
}

# go_stamp MODULE-FOLDER: what its programs are made from
go_stamp() { (cd "$here/$1" && cat go.mod go.sum && go version) | sha256sum | cut -d' ' -f1; }

need_go() { command -v go >/dev/null || die "Go is not on PATH; install it (https://go.dev/dl) to build the servers that the tests run"; }

# cached NAME STAMP COMMAND…: runs COMMAND, which fills $bed/NAME.new, unless $bed/NAME was made with the same stamp
cached() {
  local name=$1 stamp=$2; shift 2
  [ "$(cat "$bed/$name/stamp" 2>/dev/null)" = "$stamp" ] && return
  rm -rf "${bed:?}/$name.new"
  mkdir -p "$bed/$name.new/bin"
  "$@"
  echo "$stamp" >"$bed/$name.new/stamp"
  rm -rf "${bed:?}/$name"
  mv "$bed/$name.new" "$bed/$name"
}

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# mirror: the mirror that this machine's apt uses
mirror() {
  awk '/^URIs:/ {print $2; exit} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n1
}

# suite_package SUITE FOLDER PACKAGE…: unpacks packages of another Debian into FOLDER, with an apt configuration of its own
suite_package() {
  local suite=$1 folder=$2 apt=$2/apt package; shift 2
  mkdir -p "$apt"/lists/partial "$apt"/archives/partial
  : >"$apt/status"
  echo "deb [signed-by=$keyring] $(mirror) $suite main" >"$apt/sources.list"
  local options=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
    -o Dir::Cache="$apt" -o Dir::State::status="$apt/status" -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
  apt-get "${options[@]}" -qq update
  (cd "$apt/archives" && apt-get "${options[@]}" -qq download "$@")
  for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$folder"; done
  rm -r "$apt"
}

# debian_package FOLDER PACKAGE…: downloads packages of this Debian and unpacks them into FOLDER, without installing them
debian_package() {
  local folder=$1 package; shift
  mkdir -p "$folder/packages"
  for package in "$@"; do
    (cd "$folder/packages" && apt-get download -qq "$package" 2>/dev/null) ||
      die "Debian's $package cannot be downloaded; run 'apt-get update' on Debian 12"
  done
  for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder"; done
  rm -r "$folder/packages"
}

#!/usr/bin/env bash
# image.sh ARCHIVE NAME FILE…: an OCI image with these files at its root, as an archive for `ctr images import`. The first file is
# what runs.
set -euo pipefail
archive=$1 name=$2
shift 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
blobs=$folder/image/blobs/sha256
mkdir -p "$blobs" "$folder/root"
install -m 755 "$@" "$folder/root/"

# keep FILE: moves a file to where its digest says; prints the digest.
keep() { local digest; digest=$(sha256sum "$1" | cut -d' ' -f1); mv "$1" "$blobs/$digest"; echo "sha256:$digest"; }
# describe TYPE DIGEST: a descriptor without its closing brace.
describe() { printf '{"mediaType":"application/vnd.oci.image.%s","digest":"%s","size":%d' "$1" "$2" "$(stat -c %s "$blobs/${2#*:}")"; }
text() { printf '%s' "$1" >"$folder/text"; keep "$folder/text"; }

case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac
tar --create --file "$folder/layer" --directory "$folder/root" --owner=0 --group=0 --mtime=@0 --sort=name .
layer=$(keep "$folder/layer")
config=$(text "{\"architecture\":\"$architecture\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"/$(basename "$1")\"],\"WorkingDir\":\"/\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"$layer\"]}}")
manifest=$(text "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":$(describe config.v1+json "$config")},\"layers\":[$(describe layer.v1.tar "$layer")}]}")
printf '{"schemaVersion":2,"manifests":[%s,"annotations":{"io.containerd.image.name":"%s"}}]}' \
  "$(describe manifest.v1+json "$manifest")" "$name" >"$folder/image/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$folder/image/oci-layout"
tar --create --file "$archive" --directory "$folder/image" .

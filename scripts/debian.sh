#!/usr/bin/env bash
# debian.sh ROOT VERSION ARCHITECTURE FILE: a Debian package of what is installed in ROOT, with what Debian's policy wants beside it. Its
# maintainer is that of DEBFULLNAME and DEBEMAIL, as with Debian's own tools, by default the last commit's author. Called by package.sh.
set -euo pipefail
root=$1 version=$2 architecture=$3 file=$4
maintainer="${DEBFULLNAME:-$(git log -1 --format=%an)} <${DEBEMAIL:-$(git log -1 --format=%ae)}>"
doc=$root/usr/share/doc/wisp

rm "$doc/LICENSE"
cat >"$doc/copyright" <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2026 the Wisp authors
License: Apache-2.0
 On Debian systems the whole text of the Apache License, version 2.0, is in /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
gzip --best --no-name >"$doc/changelog.gz" <<CHANGES
wisp ($version) unstable; urgency=medium

  * CHANGELOG.md beside this file says what has changed.

 -- $maintainer  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
CHANGES
install -d "$root/usr/share/lintian/overrides"
cat >"$root/usr/share/lintian/overrides/wisp" <<'OVERRIDES'
# Static, so that one build runs on every node, and beside every version of its libraries.
wisp: statically-linked-binary
wisp: shared-library-lacks-prerequisites
# Their symbols name the functions in a report of a crash.
wisp: unstripped-binary-or-object
# Called by containerd, Podman and Docker, not by people; --help says what there is.
wisp: no-manual-page [usr/bin/containerd-shim-wisp-v1]
wisp: no-manual-page [usr/bin/wisp-runtime]
OVERRIDES
chmod 644 "$doc"/{copyright,changelog.gz} "$root/usr/share/lintian/overrides/wisp"

install -d "$root/DEBIAN"
(cd "$root" && find usr -type f -print0 | sort --zero-terminated | xargs --null md5sum) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<CONTROL
Package: wisp
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Section: admin
Priority: optional
Installed-Size: $(du --summarize --apparent-size --block-size=1024 "$root/usr" | cut -f1)
Recommends: containerd, runc
Description: runs WebAssembly as ordinary containers and Kubernetes pods
 A containerd shim, an OCI runtime and a command line, all static. The
 package changes nothing of the node: "wisp install" gives containerd the
 handler, and "wisp doctor" says what would keep pods from running.
CONTROL
dpkg-deb --root-owner-group --build "$root" "$file" >/dev/null

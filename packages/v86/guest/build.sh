#!/bin/sh
# Builds the guests beside this file, or into the folder that is named: sh build.sh [FOLDER]. Needs a gcc that knows -m32 (no 32-bit
# libraries: the guests use none). The same compiler makes the same bytes: nothing of time, place or user goes in.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
CC=${CC:-gcc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-m32 -march=i686 -mno-sse -mno-mmx -std=c11 -Os -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables
  -fno-ident -fno-builtin -fcf-protection=none -Wall -Wextra -Werror"
link="-m32 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-n -Wl,-T,$here/link.ld -Wl,--no-warn-rwx-segments -s"

# program NAME SOURCE...: one ELF file of these sources.
program() {
  name=$1
  shift
  objects=
  for source in "$@"; do
    object=$work/$name-$(basename "$source").o
    # shellcheck disable=SC2086
    (cd "$here" && $CC $flags -c "$source" -o "$object")
    objects="$objects $object"
  done
  # shellcheck disable=SC2086
  $CC $link -o "$out/$name.elf" $objects
}

program self-test self-test.S
program devices boot.S machine.c pci.c edu.c gpio.c nvme.c disk.c main.c
program studio boot.S machine.c pci.c gpio.c nvme.c disk.c vgpu.c studio.c
# Who built them: compiler and linker.
{
  "$CC" --version | head -n 1
  ld --version | head -n 1
} >"$out/built-with"

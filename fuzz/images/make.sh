#!/bin/sh
# Makes the images that the file system fuzzers patch, with the systems' own
# tools: ./make.sh. The result is in sparse form (see ../src/sparse.rs).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# What is on each of them.
mkdir -p tree/boot/grub tree/lots tree/a/b/c
echo 'set default=0' > tree/boot/grub/grub.cfg
head -c 9000 /dev/zero | tr '\0' 'k' > tree/boot/vmlinuz
head -c 200 /dev/zero | tr '\0' 's' > tree/boot/small
echo deep > tree/a/b/c/file
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    : > "tree/lots/a-name-that-is-not-too-short-$n"
done
cp -r tree plain
ln -s boot/vmlinuz tree/vmlinuz
ln -s /a/b/c/file tree/through
ln -s ../../boot tree/a/b/up
ln -s loop tree/loop
ln -s "/$(head -c 90 /dev/zero | tr '\0' x | sed 's/x/.\//g')boot/small" tree/long
dd if=/dev/zero of=tree/holes bs=1 count=0 seek=300000 2>/dev/null
printf tail >> tree/holes
printf middle | dd of=tree/holes bs=1 seek=100000 conv=notrunc 2>/dev/null

sparse() {
    cargo run --quiet --manifest-path "$here/../Cargo.toml" --example sparse -- "$work/$1" |
        gzip -9n > "$here/$1.gz"
}

uuid=3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11
ext() {
    name=$1
    shift
    mke2fs -q -F -d tree -L "a label" -U $uuid -N 64 "$@" "$name" 2M
    sparse "$name"
}
ext ext2 -t ext2 -b 1024
ext ext4 -t ext4 -b 1024 -O ^metadata_csum,^has_journal
ext ext4-sums -t ext4 -b 4096 -O ^has_journal
# A journal with two blocks that are not in their place yet.
mke2fs -q -F -d tree -U $uuid -N 64 -t ext4 -b 1024 -J size=1 ext4-journal 4M
head -c 2048 /dev/zero | tr '\0' j > blocks
printf 'jo -c -v 3\njw -b 3000,3001 blocks\njc\n' | debugfs -w -f - ext4-journal >/dev/null 2>&1
sparse ext4-journal

xfs() {
    name=$1
    shift
    {
        printf '/\n0 0\nd--755 0 0\n'
        printf 'vmlinuz l--777 0 0 boot/vmlinuz\nthrough l--777 0 0 /a/file\nloop l--777 0 0 loop\n'
        printf 'boot d--755 0 0\nvmlinuz ---644 0 0 tree/boot/vmlinuz\nsmall ---644 0 0 tree/boot/small\n$\n'
        printf 'holes ---644 0 0 tree/holes\na d--755 0 0\nfile ---644 0 0 tree/a/b/c/file\n$\n'
        printf 'lots d--755 0 0\n'
        for n in $(seq 1 "$lots"); do
            printf 'a-name-that-is-not-too-short-%s ---644 0 0 /dev/null\n' "$n"
        done
        printf '$\n$\n'
    } > prototype
    truncate -s 300M "$name"
    mkfs.xfs -q -f -L label -p prototype "$@" "$name"
    sparse "$name"
}
lots=20
xfs xfs-4 -m crc=0,uuid=$uuid
xfs xfs-5 -m uuid=$uuid
# Directories of several blocks, and a tree over them.
lots=120
xfs xfs-small -b size=1024 -m uuid=$uuid

btrfs() {
    name=$1
    shift
    truncate -s 130M "$name"
    mkfs.btrfs -q -f -L "a label" -U $uuid -r tree "$@" "$name"
    sparse "$name"
}
btrfs btrfs -m single
btrfs btrfs-mixed -M -n 4096

fat() {
    name=$1 size=$2
    shift 2
    truncate -s "$size" "$name"
    mkfs.vfat -n LABEL -i 1234abcd "$@" "$name" >/dev/null
    mcopy -s -i "$name" plain/* ::
    sparse "$name"
}
fat fat12 200K -F 12 -s 1
fat fat16 4M -F 16 -s 1
fat fat32 40M -F 32 -s 1

genisoimage -quiet -R -V LABEL -o iso9660 tree
sparse iso9660
genisoimage -quiet -J -V LABEL -o iso9660-plain plain
sparse iso9660-plain

truncate -s 2M gpt
sgdisk -n 1:0:+500K -c 1:boot -t 1:ef00 -n 2:0:0 gpt >/dev/null
sparse gpt
truncate -s 4M mbr
printf 'label: dos\nsize=1M\nsize=2M, type=5\nsize=100K\nsize=200K\n' | sfdisk -q mbr
sparse mbr

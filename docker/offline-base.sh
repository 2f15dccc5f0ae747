#!/usr/bin/env bash
# Makes a base image from the distribution's packages, for machines that reach those but no container registry.
# As root:  docker/offline-base.sh [image] [suite]     then:  BASE_IMAGE=<image> make image
set -euo pipefail

image=${1:-localhost/matfn-base:bookworm}
suite=${2:-bookworm}

engine=
if command -v docker > /dev/null && docker version > /dev/null 2>&1; then
    engine=docker
elif command -v podman > /dev/null; then
    engine=podman
fi
missing=()
[[ $EUID -eq 0 ]] || missing+=("root, which debootstrap needs")
command -v debootstrap > /dev/null || missing+=("debootstrap, of the distribution's package of that name")
[[ -n $engine ]] || missing+=("podman, or docker with a daemon that answers")
if ((${#missing[@]})); then
    printf 'offline-base: missing: %s\n' "${missing[@]}" >&2
    exit 1
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root"
printf 'path-exclude /usr/share/%s/*\n' doc locale man > "$root/etc/dpkg/dpkg.cfg.d/small"
rm -rf "$root"/usr/share/{doc,locale,man}/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
tar -C "$root" -c . | "$engine" import --change 'CMD ["bash"]' - "$image"
echo "made $image; now: BASE_IMAGE=$image make image"

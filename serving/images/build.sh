#!/usr/bin/env bash
# Builds the images with buildah, without a daemon. `make images` runs it; see docs/serving.md.
#
#   BASE          image with a python3 of 3.11; default: the Dockerfile's. `debootstrap`: a Debian bookworm made here, where no registry is reached
#   BUILDAH_ARGS  further arguments of `buildah build`, for example --isolation chroot, or a --volume with certificates
#   TARGETS       default: serving steps monitoring
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v buildah >/dev/null || { echo "images: skipped, buildah is not installed (docker builds the same file: docker build -f serving/images/Dockerfile .)"; exit 0; }

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
base=${BASE:-}
if [ "$base" = debootstrap ]; then
  base=localhost/clickmill-base:bookworm
  if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
    command -v debootstrap >/dev/null || { echo "images: skipped, BASE=debootstrap needs debootstrap, which is not installed"; exit 0; }
    root=$PWD/.cache/images/bookworm
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root" /
    buildah commit --quiet --rm "$container" "$base"
    rm -rf "$root"
  fi
fi

declare -A names=([serving]=clickmill/serving [monitoring]=clickmill/monitoring [steps]=clickmill/steps-python)
for target in ${TARGETS:-serving steps monitoring}; do
  # shellcheck disable=SC2086 # the arguments are words
  buildah build --layers ${base:+--build-arg "BASE=$base"} ${BUILDAH_ARGS:-} \
    --file serving/images/Dockerfile --target "$target" --tag "${names[$target]}:$version" .
done

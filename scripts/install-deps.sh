#!/usr/bin/env bash
# Install the Debian packages that building needs, those that are missing only; --dev adds Open MPI
# and the tools for scripts/lint.sh.
set -euo pipefail

packages=(build-essential cmake ninja-build pkg-config
    libdnnl-dev libturbojpeg0-dev zlib1g-dev libjansson-dev libprotobuf-c-dev protobuf-c-compiler
    libcmocka-dev)
case "${1-}" in
--dev) packages+=(libopenmpi-dev openmpi-bin                                   # several processes
        clang-format clang-tidy clang libclang-rt-dev libomp-dev) ;;         # lint.sh and fuzzing
"") ;;
*)
    echo "usage: $0 [--dev]" >&2
    exit 2
    ;;
esac

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing: ${missing[*]}" >&2
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "$0: run as root, or install these packages: ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 </dev/null

#!/usr/bin/env bash
# Installs the programs that bench/run.sh compares with, on Debian 12: packages of Debian for
# Python, and ONNX Runtime from npm into build/peers. What is there already stays. Says what could
# not be installed and then fails; bench/run.sh leaves it out.
#
#   bench/peers/install.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
onnxruntime=1.30.0
status=0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

failed() {
    echo "could not install: $*" >&2
    status=1
}

# Debian packages, each by itself, so that one that fails does not keep back the others.
debian() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" != installed ] || continue
        echo "installing $package"
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 </dev/null || failed "$package"
    done
}

"${as_root[@]}" apt-get update -qq >/dev/null 2>&1 || failed "lists of packages (apt-get update)"
debian libdnnl-dev python3-torch python3-torchvision python3-onnx
command -v node >/dev/null || debian nodejs
command -v npm >/dev/null || debian npm

# Without scripts: the package has its library for CPUs in it, its script downloads those for GPUs.
installed=$(node -p "require('./build/peers/node_modules/onnxruntime-node/package.json').version" 2>/dev/null || true)
if [ "$installed" != "$onnxruntime" ]; then
    echo "installing onnxruntime-node $onnxruntime"
    npm install --prefix build/peers --ignore-scripts --no-audit --no-fund --silent "onnxruntime-node@$onnxruntime" ||
        failed "onnxruntime-node $onnxruntime"
fi
exit $status

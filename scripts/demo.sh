#!/usr/bin/env bash
# Install, build and run the whole pipeline on a generated image set; arguments go to `repqat demo`
# (see --help).
set -euo pipefail
here=$(dirname "$0")
"$here/install-deps.sh"
"$here/build.sh" release
exec "$here/../build/release/bin/repqat" demo "$@"

#!/usr/bin/env bash
# install.sh VENV [PIP OPTION...]: sarseg and the tested versions of its dependencies in a new virtual environment.
# Every RUN line of the images is this script; the tests run it too, in a bare venv.
set -euo pipefail

venv=$1
shift
python=${PYTHON:-python3}
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then # a slim image; a machine with Python skips this
  apt-get update
  apt-get install --yes --no-install-recommends python3 python3-venv
  rm -rf /var/lib/apt/lists/*
fi

"$python" -m venv "$venv"
"$venv/bin/pip" install --disable-pip-version-check --quiet --constraint "$source/constraints.txt" "$@" "$source"
"$venv/bin/sarseg" --version

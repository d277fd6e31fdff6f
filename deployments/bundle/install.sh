#!/bin/sh
# Installs Swath from this bundle, without a network: ./install.sh FOLDER
set -eu
bundle=$(cd "$(dirname "$0")" && pwd)
version=$(cat "$bundle/PYTHON")
python=${PYTHON:-python$version}
if [ $# -ne 1 ] || [ -e "$1" ]; then
    echo "Name one folder that is not there yet: ./install.sh FOLDER" >&2
    exit 2
fi
if ! "$python" -c "import sys, venv; sys.exit('$version' != '%d.%d' % sys.version_info[:2])"; then
    echo "This bundle is for Python $version with its venv module: PYTHON=/path/to/python$version ./install.sh $1" >&2
    exit 1
fi
(cd "$bundle" && sha256sum --check --quiet SHA256SUMS)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
tar -x -f "$bundle/source.tar" -C "$folder"
"$python" -m venv "$folder/.venv"
install() {
    "$folder/.venv/bin/python" -m pip --disable-pip-version-check --quiet install --no-index --no-deps "$@"
}
install --find-links "$bundle/wheels" --require-hashes --requirement "$bundle/wheels.lock"
install --no-build-isolation --editable "$folder"
if [ -z "${WITHOUT_CACHES-}" ]; then # what `make setup` prepares: Prefect's empty database, the compiled loops of the merge
    (cd "$folder" && .venv/bin/python -m deployments.local.prefect_server && .venv/bin/python -m tasks.merge)
fi
echo "Swath is in $folder, its command is $folder/.venv/bin/swath, its pages are in $folder/docs"

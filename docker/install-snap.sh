#!/usr/bin/env bash
# install-snap.sh VERSION PYTHON: ESA SNAP in /opt/snap, without updates, and esa_snappy for PYTHON. For docker/Dockerfile.snap, as root.
set -euo pipefail

version=$1
python=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
installer=/tmp/esa-snap.sh

apt-get update
# the installer's and SNAP's Java wants fonts; libgfortran is for its jblas
apt-get install --yes --no-install-recommends ca-certificates curl fontconfig fonts-dejavu-core libgfortran5
rm -rf /var/lib/apt/lists/*

curl --fail --location --silent --show-error --retry 3 --output "$installer" \
  "https://download.esa.int/step/snap/${version%.*}/installers/esa-snap_all_linux-$version.sh"
bash "$installer" -q -varfile "$here/snap.varfile"
rm "$installer"

# neither gpt nor SNAP itself asks for updates
echo 'snap.versionCheck.interval=NEVER' >> /opt/snap/etc/snap.properties
sed --in-place 's/default_options="/default_options="-J-Dplugin.manager.check.interval=NEVER /' /opt/snap/etc/snap.conf

"$python" -m pip install --disable-pip-version-check --quiet --no-cache-dir 'esa-snappy>=1.1'
# snappy-conf may stay at its end although its work is done; the import below tells
timeout 300 /opt/snap/bin/snappy-conf "$python" || true
SNAP_HOME=/opt/snap "$python" -c 'from esa_snappy import GPF, ProductIO'
/opt/snap/bin/gpt --diag
rm -rf /root/.snap

mkdir --parents /auxdata /home/sarseg/.snap
ln --symbolic /auxdata /home/sarseg/.snap/auxdata
chown --recursive 1000:1000 /auxdata /home/sarseg

#!/bin/sh
# Creates the virtual environment with the libraries, in a container of the release and without a network, from /wheels
# and /requirements.txt. debian/rules copies it and adds channelbox itself.
set -eu

venv=/opt/venvs/channelbox
python=$(readlink -f /usr/bin/python3)
site=$venv/lib/$(basename "$python")/site-packages

"$python" -m venv --without-pip "$venv"
"$python" -m pip --python "$venv/bin/python" --no-cache-dir install --quiet --no-index --no-compile --no-deps \
	--find-links /wheels --require-hashes --requirement /requirements.txt

# Remove what is not needed at run time: the commands of the libraries, their sources and their tests.
find "$venv/bin" -type f -delete
cd "$venv"
rm -rf lib64 include .gitignore
find "$site" -depth -type d -name tests -exec rm -r {} +
find "$site" -type f \( -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.po' \) -delete
find "$site" -type f -name '*.py' -exec chmod -x {} +

# unchecked-hash: only the package changes these files, so Python need not compare timestamps when a process starts.
"$python" -m compileall -q -j 2 --invalidation-mode unchecked-hash "$site"

#!/bin/sh
# Creates the virtual environment for the tests, in a container of the release and without a network, from /wheels and
# /requirements.txt.
set -eu

python3 -m venv --without-pip /opt/tests
python3 -m pip --python /opt/tests/bin/python --no-cache-dir install --quiet --no-index --no-deps --find-links /wheels \
	--require-hashes --requirement /requirements.txt

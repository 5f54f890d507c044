#!/bin/bash
# Makes a self-signed certificate in the folder given, unless there is one newer than its self-signed.cnf.
set -euo pipefail
umask 077
cd "$1"

if [ cert.pem -nt self-signed.cnf ] && openssl x509 -in cert.pem -noout -checkend $((30 * 86400)) > /dev/null; then
    exit 0
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825 -config self-signed.cnf \
    -keyout key.pem.new -out cert.pem.new 2> /dev/null
chmod 0644 cert.pem.new
mv key.pem.new key.pem
mv cert.pem.new cert.pem
echo made

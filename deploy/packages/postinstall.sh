#!/bin/sh
set -e
if ! getent passwd flotilla >/dev/null; then
  useradd --system --user-group --home-dir /var/lib/flotilla --shell /usr/sbin/nologin flotilla
fi
# The file may name keys and tokens: the service reads it, nobody else.
chgrp flotilla /etc/flotilla /etc/flotilla/flotilla.yaml
chmod 0750 /etc/flotilla
if [ ! -d /var/lib/flotilla ]; then
  install -d -o flotilla -g flotilla -m 0750 /var/lib/flotilla
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi

#!/bin/sh
set -e
if ! getent passwd flotilla >/dev/null; then
  useradd --system --user-group --home-dir /var/lib/flotilla --shell /usr/sbin/nologin flotilla
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi

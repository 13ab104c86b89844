#!/bin/sh
set -e
# deb: "remove" or "upgrade"; rpm: 0 or 1 packages that stay. An upgrade leaves the running node alone.
case "$1" in
  remove|0)
    if [ -d /run/systemd/system ]; then
      systemctl disable --now flotilla.service || true
    fi
    ;;
esac

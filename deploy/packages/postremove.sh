#!/bin/sh
set -e
# The data directory and its user stay, also after a purge: a removed program is no reason to lose messages. To take a node out of
# its cluster: flotilla node remove ID, on another node; then delete /var/lib/flotilla by hand.
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi

#!/usr/bin/env bash
# The main tasks of an operator with nothing but curl and jq. FLOTILLA_URL is the admin address of any node, FLOTILLA_TOKEN_FILE
# a file with an API key, where one is needed.
#
#   docs/api.sh status
#   docs/api.sh publish TOPIC TEXT          QoS 1; returns when it is committed
#   docs/api.sh inbox CLIENT                what waits for a session
#   docs/api.sh kick CLIENT
#   docs/api.sh drain NODE                  and waits for the operation
#   docs/api.sh retained TOPIC              the payload of a retained message
#   docs/api.sh key NAME ROLE               makes an API key and prints it
#   docs/api.sh unkey NAME
set -euo pipefail
url=${FLOTILLA_URL:-http://127.0.0.1:8080}/api/v1

# call METHOD PATH [BODY]: prints the answer; a problem goes to stderr and ends the script.
call() {
  local args=(-sS -X "$1" -w '\n%{http_code}')
  [ -z "${FLOTILLA_TOKEN_FILE:-}" ] || args+=(-H "Authorization: Bearer $(cat "$FLOTILLA_TOKEN_FILE")")
  [ -z "${3:-}" ] || args+=(-H 'Content-Type: application/json' -d "$3")
  local out status
  out=$(curl "${args[@]}" "$url$2")
  status=${out##*$'\n'} out=${out%$'\n'*}
  if [ "$status" -ge 400 ]; then
    jq -r '"\(.code): \(.detail)"' <<<"$out" >&2
    exit 1
  fi
  printf '%s\n' "$out"
}

# segment TEXT: an id or a topic as one segment of a path.
segment() { jq -rn --arg s "$1" '$s | @uri'; }

case ${1:-} in
  status) call GET /status | jq -r '"cluster \(.cluster_id): " + (if .healthy then "healthy" else "NOT healthy" end), (.nodes[] | "\(.id) \(.state)"), .reasons[]' ;;
  publish) call POST /messages "$(jq -nc --arg t "$2" --arg p "$3" '{topic: $t, payload: $p, qos: 1}')" | jq -r .reason ;;
  inbox) call GET "/sessions/$(segment "$2")/inbox" | jq -r '.items[] | "\(.seq) \(.topic) \(.state) \(.payload_base64 | @base64d)"' ;;
  kick) call DELETE "/clients/$(segment "$2")" | jq -r '"kicked from \(.node)"' ;;
  drain)
    id=$(call POST "/nodes/$(segment "$2")/drain" | jq -r .id)
    while op=$(call GET "/operations/$(segment "$id")") && [ "$(jq -r .state <<<"$op")" = running ]; do sleep 0.2; done
    jq -r '"\(.kind) of \(.node): \(.state)"' <<<"$op"
    ;;
  retained) call GET "/retained/$(segment "$2")" | jq -j '.payload_base64 | @base64d' ;;
  key) call POST /apikeys "$(jq -nc --arg n "$2" --arg r "$3" '{name: $n, role: $r}')" | jq -r .key ;;
  unkey) call DELETE "/apikeys/$(segment "$2")" >/dev/null && echo "removed" ;;
  *)
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

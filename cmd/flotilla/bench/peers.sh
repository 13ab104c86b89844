#!/bin/bash
# peers.sh OUT: measures this broker, mosquitto and nats-server with `flotilla bench`, one after the other on
# one machine, and prints a table of ratios. Reports are left in OUT as BROKER--SHAPE.json.
#
#   FLOTILLA     the binary                          (bin/flotilla)
#   SECONDS_EACH of a shape                          (5)
#   BROKERS      which, of: flotilla mosquitto nats-always nats nats-core
#   SHAPES       which, of: qos1 qos2 qos0 rate500 fanout share connect durable
#   NATS         version of nats-server              (v2.15.2)
#
# flotilla: three nodes, fsync before each acknowledgement. nats-always: three nodes, JetStream, three replicas,
# sync_interval always; nats: the same with its default interval; mosquitto: one process, memory, as Debian sets it.
# What is not installed is left out with a sentence.
set -eu -o pipefail
cd "$(dirname "$0")/../../.."
out=$(realpath -m "${1:-bench-out}")
bin=$(realpath "${FLOTILLA:-bin/flotilla}")
seconds=${SECONDS_EACH:-5}
brokers=${BROKERS:-flotilla mosquitto nats-always nats}
shapes=${SHAPES:-qos1 qos2 qos0 rate500 fanout share connect durable}
nats=${NATS:-v2.15.2}
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/flotilla-peers.XXXXXX")
pids=()

stop() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
	pids=()
}
trap 'stop; rm -rf "$work"' EXIT

reachable() { # HOST:PORT
	for _ in $(seq 100); do
		if (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null; then return 0; fi
		sleep 0.1
	done
	echo "peers.sh: nobody listens on $1; see $work" >&2
	return 1
}

start_flotilla() {
	local join=127.0.0.1:17411,127.0.0.1:17412,127.0.0.1:17413
	for i in 1 2 3; do
		"$bin" start --node-id "n$i" --data-dir "$work/flotilla$i" --mqtt-addr "127.0.0.1:1861$i" --cluster-addr "127.0.0.1:1741$i" \
			--admin-addr "127.0.0.1:1808$i" --bootstrap-expect 3 --join "$join" >"$work/flotilla$i.log" 2>&1 &
		pids+=($!)
	done
	"$bin" cluster health --wait 60s -e http://127.0.0.1:18081 >/dev/null
	urls=mqtt://127.0.0.1:18611,mqtt://127.0.0.1:18612,mqtt://127.0.0.1:18613
	version=5
}

start_mosquitto() {
	printf 'listener 18621 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\npersistence false\n' >"$work/mosquitto.conf"
	mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
	pids+=($!)
	reachable 127.0.0.1:18621
	urls=mqtt://127.0.0.1:18621
	version=5
}

start_nats() { # SYNC_INTERVAL, empty for the default
	for i in 1 2 3; do
		cat >"$work/nats$i.conf" <<-CONF
			server_name: n$i
			listen: 127.0.0.1:1842$i
			cluster { name: bench, listen: 127.0.0.1:1843$i, routes: [nats://127.0.0.1:18431, nats://127.0.0.1:18432, nats://127.0.0.1:18433] }
			jetstream { store_dir: "$work/nats$i", ${1:+sync_interval: $1} }
			mqtt { listen: 127.0.0.1:1862$((i + 3)), max_ack_pending: 10000, stream_replicas: 3 }
		CONF
		"$work/bin/nats-server" -c "$work/nats$i.conf" >"$work/nats$i.log" 2>&1 &
		pids+=($!)
	done
	for i in 1 2 3; do reachable "127.0.0.1:1862$((i + 3))"; done
	for _ in $(seq 150); do # until JetStream has a leader
		if grep -q "JetStream cluster new metadata leader" "$work"/nats?.log; then break; fi
		sleep 0.2
	done
	urls=mqtt://127.0.0.1:18624,mqtt://127.0.0.1:18625,mqtt://127.0.0.1:18626
	version=3.1.1 # it speaks no other
	for _ in $(seq 20); do # its MQTT streams are made with the first sessions, and refuse clients until they are
		if timeout 20 "$bin" bench pubsub --qos 1 --publishers 3 --subscribers 3 --topics 3 --durable --count 30 --drain 2s -b "$urls" \
			--mqtt-version "$version" --quiet >/dev/null 2>&1; then break; fi
		sleep 1
	done
}

measure() { # BROKER SHAPE bench arguments...
	local file=$out/$1--$2.json
	shift 2
	if ! timeout $((seconds * 4 + 60)) "$bin" bench "$@" -b "$urls" --mqtt-version "$version" --duration "${seconds}s" --quiet -o json >"$file" 2>"$work/err"; then
		sed 's/^/  /' "$work/err" | tail -3 >&2
		if [ ! -s "$file" ]; then rm -f "$file"; fi
	fi
}

run_shapes() { # BROKER
	for shape in $shapes; do
		local eight="--publishers 8 --subscribers 8 --topics 8"
		case $shape in
		qos1) measure "$1" qos1 pubsub --qos 1 $eight --window 64 --durable ;;
		qos2) measure "$1" qos2 pubsub --qos 2 $eight --window 64 --durable ;;
		qos0) measure "$1" qos0 pubsub --qos 0 $eight ;;
		rate500) measure "$1" rate500 pubsub --qos 1 $eight --durable --rate 500/s ;;
		fanout) measure "$1" fanout pubsub --qos 1 --publishers 1 --subscribers 100 --topics 1 --window 64 --durable ;;
		share) [ "$version" = 5 ] && measure "$1" share share --qos 1 --publishers 8 --subscribers 8 --window 64 --durable ;;
		connect) measure "$1" connect connect --subscribers 9000 --connecting 512 ;;
		durable) measure "$1" durable connect --subscribers 9000 --connecting 512 --durable ;;
		esac || true
	done
}

for broker in $brokers; do
	echo "== $broker" >&2
	case $broker in
	flotilla) start_flotilla ;;
	mosquitto)
		if ! command -v mosquitto >/dev/null; then echo "mosquitto is not installed: left out" >&2; continue; fi
		start_mosquitto ;;
	nats*)
		if [ ! -x "$work/bin/nats-server" ] && ! (cd "$work" && GOBIN=$work/bin GOFLAGS= go install "github.com/nats-io/nats-server/v2@$nats"); then
			echo "nats-server $nats cannot be built: left out" >&2; continue
		fi
		if [ "$broker" = nats-always ]; then start_nats always; else start_nats ""; fi ;;
	esac
	run_shapes "$broker"
	stop
	rm -rf "$work"/flotilla? "$work"/nats?
done
"$bin" bench table --first flotilla,nats-always,nats,mosquitto "$out" | tee "$out/table.md"

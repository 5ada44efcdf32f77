# shellcheck shell=bash
# scripts/deploy-test.sh sources this file. It provides a Docker engine: the one that answers, or one that runs until the script ends.

smoke="$(mktemp -d)"
trap 'rm -rf "$smoke"' EXIT
if ! docker compose version &>/dev/null; then
  scripts/install-tools.sh docker-plugins
  export DOCKER_CONFIG="$smoke"
  ln -s "$PGDIBS_CACHE/docker-plugins" "$smoke/cli-plugins"
fi

stop_engine() {
  kill "$engine"
  wait "$engine" || true
  # The engine leaves its bridge, its firewall rules and IP forwarding behind.
  ip link delete docker0 || true
  iptables-restore <<<"$rules"
  printf '%s' "$forwarding" >/proc/sys/net/ipv4/ip_forward
  rm -rf "$smoke"
}

if ! docker info &>/dev/null; then
  { command -v dockerd && command -v iptables; } >/dev/null || apt_install docker.io iptables iproute2
  rules="$(iptables-save)"
  forwarding="$(cat /proc/sys/net/ipv4/ip_forward)"
  export DOCKER_HOST="unix://$smoke/docker.sock"
  log "no Docker engine answers; starting one, its data in $PGDIBS_CACHE/docker-data"
  dockerd --data-root="$PGDIBS_CACHE/docker-data" --exec-root="$smoke/run" --pidfile="$smoke/pid" --host="$DOCKER_HOST" &>"$smoke/log" &
  engine=$!
  trap stop_engine EXIT
  for _ in {1..300}; do
    if docker info &>/dev/null || ! kill -0 "$engine"; then break; fi
    sleep 0.2
  done
  docker info >/dev/null || fail "dockerd does not answer: $(tail -n 20 "$smoke/log")"
fi

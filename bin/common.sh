# Sourced by bin/demo and bin/test: what is missing comes from the distribution (apt) and PyPI (into .venv), nothing else.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1"; say "  fix: $2"; exit "${3:-1}"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# A step that may take its time: says so, keeps its output for the case that it fails.
step() {
  local what=$1 began=$SECONDS log; shift
  log=$(mktemp)
  printf '  %-46s' "$what" >&2
  if "$@" >"$log" 2>&1 </dev/null; then
    printf '%4d s\n' $((SECONDS - began)) >&2; rm -f "$log"
  else
    printf 'failed\n' >&2; tail -n 40 "$log" >&2; rm -f "$log"
    die "$what failed" "see the lines above, then run this again"
  fi
}

need_debian() {
  . /etc/os-release
  case "${ID:-}-${VERSION_ID:-}" in
    debian-12 | debian-13) ;;
    *) die "this runs on Debian 12 or 13; here is ${PRETTY_NAME:-an unknown system}" "use such a machine, a virtual one for instance" 2 ;;
  esac
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || sudo -v || die "root is needed to boot a host" "run as root, or as a user with sudo" 2
}

set_up_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  step "apt-get update" as_root apt-get -q update
  step "apt-get install (${#missing[@]} packages)" as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${missing[@]}"
}

# The virtual environment holds exactly what the lock names; it is made anew only when the lock changed.
set_up_python() {
  local lock=$1 mark=$VENV/.installed-$1
  if ! cmp -s "$ROOT/$lock" "$mark"; then
    [ -x "$VENV/bin/python" ] || step "Python environment" python3 -m venv "$VENV"
    step "Python packages from $lock" "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$ROOT/$lock"
    step "Homeport itself" "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e "$ROOT"
    cp "$ROOT/$lock" "$mark"
  fi
}

SANDBOX_PACKAGES=(systemd-container mmdebstrap iproute2 nftables pebble zstd openssh-client python3-venv curl ca-certificates git sudo)
ELIXIR_PACKAGES=(elixir erlang-dev erlang-xmerl erlang-parsetools erlang-tools erlang-syntax-tools erlang-p1-sqlite3 erlang-p1-pgsql)
# the tests' own servers; no other is to start on this machine
POSTGRES_PACKAGES=(postgresql pgbackrest)
keep_postgres_idle() {
  local file=/etc/postgresql-common/createcluster.d/homeport.conf
  [ -d /etc/postgresql-common ] && return
  as_root install -D -m 0644 /dev/stdin "$file" <<<"create_main_cluster = false"
}

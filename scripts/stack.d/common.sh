# shellcheck shell=bash
# Names, ports, secrets, and processes known for good. Sourced by scripts/stack.

PARTS=(postgres kafka registry mail)
SECRETS=(
  POSTGRES_PASSWORD DATABASE_PASSWORD API_DATABASE_PASSWORD OUTBOX_RELAY_DATABASE_PASSWORD
  REMINDER_SCANNER_DATABASE_PASSWORD EMAIL_SENDER_DATABASE_PASSWORD
  RECURRENCE_GENERATOR_DATABASE_PASSWORD AUDIT_SINK_DATABASE_PASSWORD WEBHOOK_SENDER_DATABASE_PASSWORD
  NOTIFICATION_INBOX_DATABASE_PASSWORD
  OPERATOR_DATABASE_PASSWORD LINK_KEY
)
# postgres, kafka, kafka's controller, registry, smtp, inbox; then kafka's listener behind a proxy and the proxy of a test, or in
# a secured stack the registry behind its proxy
PORT_COUNT=8

SECURE=''

say() { printf '%s\n' "$*"; }
warn() { printf 'stack: %s\n' "$*" >&2; }
die() { warn "$@"; exit 1; }

# ---------------------------------------------------------------- where things are

find_folders() {
  local home=${HOME:-}
  [ -n "$home" ] || home=$(getent passwd "$(id -u)" | cut -d: -f6)
  CACHE=${CARILLON_CACHE:-${XDG_CACHE_HOME:-$home/.cache}/carillon}
  case $CACHE in /*) ;; *) CACHE=$PWD/$CACHE ;; esac
  STACK_NAME=${CARILLON_STACK:-dev}
  [[ $STACK_NAME =~ ^[a-z0-9][a-z0-9_-]{0,40}$ ]] ||
    die "CARILLON_STACK is '$STACK_NAME'; a stack's name is small letters, digits, '-' and '_'."
  TIMEOUT=${CARILLON_STACK_TIMEOUT:-90}
  [[ $TIMEOUT =~ ^[1-9][0-9]{0,3}$ ]] || die "CARILLON_STACK_TIMEOUT is '$TIMEOUT'; it must be a number of seconds."
  STACK=$CHECKOUT/.stack/$STACK_NAME
  RUN=$STACK/run
  LOGS=$STACK/logs
  if [ -e "$STACK/secure" ]; then be_secure; fi
  # Kafka separates folders by commas, Java a class path by colons, H2 its options by semicolons.
  local path
  for path in "$STACK" "$CACHE"; do
    case $path in *[:\;,\\\"$'\n']*) die "the path '$path' holds one of : ; , \\ \" which Kafka or the registry cannot take. Move it." ;; esac
  done
  MARK=CARILLON_STACK_PART=$STACK
}

# A secured stack has a proxy before the registry, and passwords of each service for Kafka and the registry.
be_secure() {
  SECURE=1
  PARTS+=(proxy)
  SECRETS+=(KAFKA_PASSWORD SCHEMA_REGISTRY_PASSWORD SMTP_PASSWORD AUDIT_SEAL_KEY)
  local service
  for service in $(services); do
    service=${service^^}
    SECRETS+=("${service//-/_}_KAFKA_PASSWORD" "${service//-/_}_SCHEMA_REGISTRY_PASSWORD")
  done
}

# Everybody who has a role in the database, and so a user everywhere: the services, and the operator.
services() {
  local name
  for name in "${SECRETS[@]}"; do
    case $name in
      *_DATABASE_PASSWORD)
        name=${name%_DATABASE_PASSWORD}
        name=${name,,}
        printf '%s\n' "${name//_/-}"
        ;;
    esac
  done
}

# The secret of a service: service_secret email-sender KAFKA_PASSWORD
service_secret() {
  local name=${1^^}
  secret "${name//-/_}_$2"
}

stack_exists() { [ -e "$STACK/port-base" ] && [ -e "$STACK/secrets" ]; }

# One command at a time changes a stack. The file goes with the folder, so look whether it is still the one we hold.
lock_stack() {
  while :; do
    mkdir -p "$STACK" || die "cannot make $STACK. Is the checkout yours?"
    exec 9>>"$STACK/lock"
    flock -w 600 9 || die "another scripts/stack works on '$STACK_NAME' for more than 10 minutes."
    [ ! "$STACK/lock" -ef /proc/self/fd/9 ] || return 0
  done
}

make_folders() {
  umask 077
  # Postgres, which never runs as root, must be able to pass through.
  { mkdir -p "$STACK" "$RUN" "$LOGS" && chmod a+x "$CHECKOUT/.stack" "$STACK"; } ||
    die "cannot write $STACK. It belongs to $(stat -c %U "$STACK" 2>/dev/null || stat -c %U "$CHECKOUT"); this is $(id -un)."
}

# Makes the stack's ports and secrets, once.
make_settings() {
  choose_ports
  local name missing=''
  for name in "${SECRETS[@]}"; do
    grep -qs "^$name=" "$STACK/secrets" || missing+="$name=$(openssl rand -hex 24)"$'\n'
  done
  if [ -n "$missing" ]; then
    { cat "$STACK/secrets" 2>/dev/null || true; printf '%s' "$missing"; } >"$STACK/secrets.new"
    mv -f "$STACK/secrets.new" "$STACK/secrets"
  fi
  if [ ! -e "$STACK/jwt.pem" ]; then
    openssl genpkey -algorithm ed25519 -out "$STACK/jwt.pem.new" 2>/dev/null ||
      die "openssl could not make an Ed25519 key. Install OpenSSL 1.1.1 or newer."
    mv -f "$STACK/jwt.pem.new" "$STACK/jwt.pem"
  fi
}

secret() { sed -n "s/^$1=//p" "$STACK/secrets"; }

# ---------------------------------------------------------------- ports

set_ports() { # set_ports BASE
  declare -gA PORT=([postgres]=$1 [kafka]=$(($1 + 1)) [controller]=$(($1 + 2))
    [registry]=$(($1 + 3)) [mail]=$(($1 + 4)) [inbox]=$(($1 + 5)))
  if [ -n "$SECURE" ]; then
    PORT[proxy]=${PORT[registry]} PORT[registry]=$(($1 + 6))
  else
    PORT[kafka_proxied]=$(($1 + 6)) PORT[kafka_proxy]=$(($1 + 7))
  fi
}

load_ports() { set_ports "$(<"$STACK/port-base")"; }

part_ports() { # the ports that a part listens on, the one for its clients first
  case $1 in
    kafka) say "${PORT[kafka]} ${PORT[controller]} ${PORT[kafka_proxied]:-}" ;;
    mail) say "${PORT[mail]} ${PORT[inbox]}" ;;
    *) say "${PORT[$1]}" ;;
  esac
}

# Is someone listening there? Reads the kernel's table: a connection would disturb a service.
port_taken() {
  local hex line
  printf -v hex ':%04X ' "$1"
  while read -r line; do
    case $line in *"$hex"*' 0A '*) [[ $line =~ ^[0-9]+:\ [0-9A-F]+$hex ]] && return 0 ;; esac
  done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  return 1
}

port_holder() { # says in words who listens there, as far as we may know
  local hex inode link=''
  printf -v hex '%04X' "$1"
  inode=$(awk -v h=":$hex" '$4 == "0A" && $2 ~ h "$" { print $10; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  link=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\\[$inode\\]" -print -quit 2>/dev/null || true)
  if [[ $link =~ ^/proc/([0-9]+)/ ]]; then
    printf 'process %s, %s' "${BASH_REMATCH[1]}" "$(tr '\0' ' ' <"/proc/${BASH_REMATCH[1]}/cmdline" 2>/dev/null | cut -c1-60)"
  else
    printf 'a process of another user'
  fi
}

base_is_free() {
  local port
  for ((port = $1; port < $1 + PORT_COUNT; port++)); do
    ! port_taken "$port" || return 1
  done
}

# The base port: what the caller says, else what this stack had, else 15400 for dev, else eight free ones that no other
# stack of this user has written down.
choose_ports() {
  local base=${CARILLON_STACK_PORT_BASE:-} had='' slot part other
  [ ! -e "$STACK/port-base" ] || had=$(<"$STACK/port-base")
  if [ -n "$base" ]; then
    [[ $base =~ ^[1-9][0-9]{3,4}$ && $base -ge 1024 && $base -le $((65536 - PORT_COUNT)) ]] ||
      die "CARILLON_STACK_PORT_BASE is '$base'; it must be a number from 1024 to $((65536 - PORT_COUNT))."
    if [ -n "$had" ] && [ "$had" != "$base" ]; then
      for part in "${PARTS[@]}"; do
        ! part_pid "$part" >/dev/null ||
          die "stack '$STACK_NAME' runs on the ports from $had. To move it: scripts/stack down, then up again."
      done
    fi
  elif [ -n "$had" ]; then
    base=$had
  elif [ "$STACK_NAME" = dev ]; then
    base=15400
  else
    mkdir -p "$CACHE/ports"
    exec 8>>"$CACHE/ports/lock"
    flock -w 60 8 || die "cannot lock $CACHE/ports/lock."
    slot=$(($(printf '%s' "$STACK" | cksum | cut -d' ' -f1) % 400))
    for _ in {1..400}; do
      base=$((15500 + slot * 10))
      other=$(cat "$CACHE/ports/$base" 2>/dev/null || true)
      if [ -n "$other" ] && [ "$other" != "$STACK" ] && [ "$(cat "$other/port-base" 2>/dev/null)" = "$base" ]; then
        base='' # written down by another stack that still exists
      elif base_is_free "$base"; then
        break
      fi
      base='' slot=$(((slot + 1) % 400))
    done
    [ -n "$base" ] || die "no eight free ports between 15500 and 19500. Set CARILLON_STACK_PORT_BASE."
    printf '%s\n' "$STACK" >"$CACHE/ports/$base"
    printf '%s\n' "$base" >"$STACK/port-base"
    exec 8>&-
  fi
  [ "$base" = "$had" ] || printf '%s\n' "$base" >"$STACK/port-base"
  set_ports "$base"
}

# ---------------------------------------------------------------- processes

# The start time of a living process (a zombie does not live).
start_time() {
  local stat=''
  # Not stat=$(<file): that ends the whole shell when the process dies between opening and reading.
  { IFS= read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # shellcheck disable=SC2086 # the fields after "(name) " are wanted as words
  set -- ${stat##*) }
  [ "$1" != Z ] && [ "$1" != X ] || return 1
  printf '%s' "${20}"
}

# The pid of a part, if the process that we started still lives: same number, same start, same boot of the machine, and
# started from here (a copy of the checkout has a copy of this file).
part_pid() {
  local pid='' start='' boot='' file=''
  { read -r pid start boot file <"$RUN/$1.pid"; } 2>/dev/null || return 1
  [ "$file" = "$RUN/$1.pid" ] && [ "$boot" = "$(</proc/sys/kernel/random/boot_id)" ] || return 1
  [ "$(start_time "$pid")" = "$start" ] || return 1
  printf '%s' "$pid"
}

# Every living process of a part: finds children, and what a lost pid file forgot. By the mark in the environment;
# Postgres writes its title over that, but it always sits in its data folder.
marked_pids() {
  local file pid
  for file in $(
    grep -lzsxF "$MARK#$1" /proc/[0-9]*/environ || true
    if [ "$1" = postgres ] && [ -d "$STACK/postgres/data" ] && [ "$(postgres_data_owner)" = "$STACK" ]; then
      find -L /proc/[0-9]*/cwd -maxdepth 0 -samefile "$STACK/postgres/data" 2>/dev/null || true
    fi
  ); do
    pid=${file#/proc/}
    pid=${pid%/*}
    case $file in
      */cwd) [[ $(readlink "/proc/$pid/exe" 2>/dev/null) = */postgres* ]] || continue ;; # no shell that looks around there
    esac
    ! start_time "$pid" >/dev/null || printf '%s\n' "$pid"
  done
}

# launch PART COMMAND…: starts it detached; returns when its pid file is there. It gets an environment of its own: the
# registry, for one, takes settings from variables of many names.
launch() {
  local part=$1 child log=$LOGS/$1.log
  shift
  if [ -e "$log" ] && [ "$(stat -c %s "$log")" -gt 20000000 ]; then
    mv -f "$log" "$log.1"
  fi
  printf '%s --- started by scripts/stack\n' "$(date '+%Y-%m-%d %H:%M:%S')" >>"$log"
  rm -f "$RUN/$part.pid"
  env -i "PATH=$PATH" "HOME=${HOME:-/}" LC_ALL=C.UTF-8 "$MARK#$part" setsid "$BASH" "$HERE/detach" "$RUN/$part.pid" "$log" "$@" </dev/null >/dev/null 2>&1 &
  child=$!
  while [ ! -e "$RUN/$part.pid" ] && start_time "$child" >/dev/null; do sleep 0.02; done
}

# wait_gone SECONDS PID…: true when none of them lives any more.
wait_gone() {
  local tenths=$(($1 * 20)) pid alive
  shift
  while :; do
    alive=''
    for pid in "$@"; do
      ! start_time "$pid" >/dev/null || alive=1
    done
    [ -n "$alive" ] || return 0
    [ $((tenths--)) -gt 0 ] || return 1
    sleep 0.05
  done
}

# end_part PART [KILL]: ends what we started of this part and nothing else.
end_part() {
  local part=$1 signal=TERM pid strays
  [ "$part" != postgres ] || signal=INT # Postgres' fast shutdown
  [ "${2:-}" != KILL ] || signal=KILL
  if pid=$(part_pid "$part"); then
    kill "-$signal" "$pid" 2>/dev/null || true
    # A stopped process (kill -STOP) hears nothing else.
    kill -CONT "$pid" 2>/dev/null || true
    if ! wait_gone 30 "$pid"; then
      warn "$part (pid $pid) did not stop in 30 s: killed."
      kill -KILL "$pid" 2>/dev/null || true
      wait_gone 5 "$pid" || warn "$part (pid $pid) does not die."
    fi
  fi
  rm -f "$RUN/$part.pid"
  mapfile -t strays < <(marked_pids "$part")
  if [ ${#strays[@]} -gt 0 ]; then
    # Postgres' children leave by themselves when their parent was killed.
    [ "$part:$signal" = postgres:KILL ] || kill "-$signal" "${strays[@]}" 2>/dev/null || true
    if ! wait_gone 10 "${strays[@]}"; then
      kill -KILL "${strays[@]}" 2>/dev/null || true
      wait_gone 5 "${strays[@]}" || warn "processes of $part that do not die: ${strays[*]}"
    fi
  fi
}

# shellcheck shell=bash
# How each part starts, and how it shows that it answers. Sourced by scripts/stack.

# What every Java program here gets; the folder for its temporary files is its own, made anew at every start.
JAVA_FLAGS=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true)

# ---------------------------------------------------------------- PostgreSQL

# Postgres never runs as root. Started by root it runs as the user `postgres`, with the same process id.
as_postgres() {
  if [ "$(id -u)" -eq 0 ]; then
    (cd / && exec setpriv --reuid postgres --regid postgres --init-groups -- "$@")
  else
    "$@"
  fi
}

# The stack that the data belong to: data behind a link say so themselves.
postgres_data_owner() {
  if [ -L "$STACK/postgres" ]; then
    cat "$(readlink "$STACK/postgres")/belongs-to" 2>/dev/null || true
  else
    printf '%s' "$STACK"
  fi
}

# The data lie in the stack's folder if Postgres can get there; a checkout below /root or another closed folder has
# them in /var/lib/carillon-stack, and a link to it.
make_postgres_home() {
  local home=$STACK/postgres outside owner
  owner=$(postgres_data_owner)
  if [ -d "$home" ] && [ "$owner" != "$STACK" ]; then
    # The checkout was moved, and its data are still its own; or copied, and they are the other's.
    outside=$(readlink "$home")
    if [ "$(readlink "$owner/postgres")" = "$outside" ]; then
      rm "$home"
    else
      printf '%s\n' "$STACK" >"$outside/belongs-to"
    fi
  fi
  if [ -d "$home" ]; then
    as_postgres test -w "$(readlink -f "$home")/." ||
      die "the user postgres cannot reach $(readlink -f "$home") any more.
       Open the folders above it (chmod a+x), or: scripts/stack down --purge"
    return 0
  fi
  rm -rf "$home" "$home.new"
  if [ "$(id -u)" -ne 0 ]; then
    mkdir "$home"
  elif as_postgres test -x "$STACK/."; then
    mkdir "$home.new"
    chown postgres: "$home.new"
    mv "$home.new" "$home"
  else
    outside=/var/lib/carillon-stack/$STACK_NAME-$(printf '%s' "$STACK" | sha256sum | cut -c1-16)
    mkdir -p "$outside"
    chmod 755 "${outside%/*}"
    chown postgres: "$outside"
    chmod 700 "$outside"
    as_postgres test -w "$outside/." || die "the user postgres cannot reach $outside."
    printf '%s\n' "$STACK" >"$outside/belongs-to"
    ln -s "$outside" "$home"
  fi
}

# Deletes the data in /var/lib/carillon-stack, if they are of this stack.
purge_postgres_home() {
  local outside
  # A test that made Postgres' disk small was killed.
  ! mountpoint -q "$STACK/postgres/data" || umount "$(readlink -f "$STACK/postgres/data")"
  [ -L "$STACK/postgres" ] || return 0
  outside=$(readlink "$STACK/postgres")
  case $outside in
    /var/lib/carillon-stack/?*)
      if [ "$(postgres_data_owner)" = "$STACK" ]; then
        rm -rf "$outside"
      fi
      ;;
  esac
}

start_postgres() {
  local home
  make_postgres_home
  home=$(readlink -f "$STACK/postgres")
  if [ ! -d "$home/data" ]; then
    # Out of reach of a Ctrl-C, which is for the script: this goes on to its end.
    rm -rf "$home/data.new"
    secret POSTGRES_PASSWORD >"$home/password"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$home/password"
    as_postgres setsid -w "$PG_BIN/initdb" -D "$home/data.new" --username=postgres --pwfile="$home/password" \
      --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync >>"$LOGS/postgres.log" 2>&1 || return 1
    rm -f "$home/password"
    mv "$home/data.new" "$home/data"
  fi
  # All of ours are gone (the caller made sure), so a pid that this file names belongs to somebody else by now.
  rm -f "$home/data/postmaster.pid"
  local command=("$PG_BIN/postgres" -D "$home/data" -p "${PORT[postgres]}"
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 -c shared_buffers=128MB
    -c fsync=on -c password_encryption=scram-sha-256 -c logging_collector=off -c log_destination=stderr
    -c timezone=UTC -c log_timezone=UTC -c 'log_line_prefix=%m [%p] %q%u@%d ' -c log_checkpoints=off)
  if [ -n "$SECURE" ]; then
    secure_postgres "$home"
    command+=(-c ssl=on -c "ssl_cert_file=$home/tls/server.pem" -c "ssl_key_file=$home/tls/server.key")
  fi
  if [ "$(id -u)" -eq 0 ]; then
    command=(setpriv --reuid postgres --regid postgres --init-groups -- "${command[@]}")
  fi
  launch postgres "${command[@]}"
}

psql_as() { # psql_as USER PASSWORD DATABASE ARGUMENT…
  local mode=disable
  [ -z "$SECURE" ] || mode=verify-full
  PGPASSWORD=$2 PGCONNECT_TIMEOUT=3 PGSSLMODE=$mode PGSSLROOTCERT=$STACK/tls/ca.pem "$PG_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
    -h 127.0.0.1 -p "${PORT[postgres]}" -U "$1" -d "$3" "${@:4}"
}

answers_postgres() {
  [ "$(psql_as carillon_owner "$(secret DATABASE_PASSWORD)" carillon -c 'SELECT 1' 2>/dev/null)" = 1 ]
}

# The owner may make databases, roles and trusted extensions, and order checkpoints, as benchmarks do; it is no superuser.
after_start_postgres() {
  "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "${PORT[postgres]}" -t 1 || return 0
  psql_as postgres "$(secret POSTGRES_PASSWORD)" postgres >>"$LOGS/postgres.log" 2>&1 <<SQL || return 0
\\set password '$(secret DATABASE_PASSWORD)'
SELECT format('CREATE ROLE carillon_owner LOGIN CREATEDB CREATEROLE PASSWORD %L', :'password')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'carillon_owner') \\gexec
GRANT pg_checkpoint TO carillon_owner;
SELECT 'CREATE DATABASE carillon OWNER carillon_owner'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'carillon') \\gexec
SQL
}

# ---------------------------------------------------------------- Kafka

fill_in() { # fill_in TEMPLATE DATA-FOLDER
  local text
  text=$(<"$1")
  if [ -n "$SECURE" ]; then
    text+=$'\n'$(<"$HERE/secure.properties")
    text=${text//@TLS@/"$STACK/tls"}
    text=${text//@PASSWORD@/"$(secret KAFKA_PASSWORD)"}
  else
    text+=$'\n'$(<"$HERE/plain.properties")
    text=${text//@PROXIED_PORT@/"${PORT[kafka_proxied]}"}
    text=${text//@PROXY_PORT@/"${PORT[kafka_proxy]}"}
  fi
  text=${text//@PORT@/"${PORT[kafka]}"}
  text=${text//@CONTROLLER_PORT@/"${PORT[controller]}"}
  printf '%s\n' "${text//@DATA@/"$2"}"
}

start_kafka() {
  local home=$STACK/kafka
  local java=("$JAVA" -Xmx512m "${JAVA_FLAGS[@]}" "-Djava.io.tmpdir=$home/tmp"
    "-Dlog4j2.configurationFile=$HERE/log4j2.properties" -cp "$JARS/kafka/*")
  rm -rf "$home/tmp"
  mkdir -p "$home/tmp"
  if [ ! -d "$home/data" ]; then
    # Format a folder beside it and rename: one that is there is whole.
    rm -rf "$home/data.new"
    fill_in "$HERE/server.properties" "$home/data.new" >"$home/format.properties"
    local users=()
    if [ -n "$SECURE" ]; then mapfile -t users < <(scram_users); fi
    setsid -w "${java[@]}" kafka.tools.StorageTool format -c "$home/format.properties" "${users[@]}" \
      --cluster-id="$(openssl rand 16 | base64 | tr '+/' '-_' | tr -d '=')" >>"$LOGS/kafka.log" 2>&1 || return 1
    mv "$home/data.new" "$home/data"
    rm -f "$home/format.properties"
  fi
  fill_in "$HERE/server.properties" "$home/data" >"$home/server.properties"
  launch kafka "${java[@]}" kafka.Kafka "$home/server.properties"
}

# Asks for the cluster's metadata (no topics) and wants at least one broker in the answer.
answers_kafka() {
  local answer
  if [ -n "$SECURE" ]; then
    answers_kafka_secured
    return
  fi
  # shellcheck disable=SC2016 # expanded by the inner bash
  answer=$(timeout 3 "$BASH" -c '
    exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
    # length 20; Metadata (3) version 5, correlation 7, client "stack", no topics, do not create any
    printf "\0\0\0\x14\0\x03\0\x05\0\0\0\x07\0\x05stack\0\0\0\0\0" >&3
    head -c 16 <&3 | od -An -v -tx1 | tr -d " \n"' "${PORT[kafka]}" 2>/dev/null) || return 1
  # length, correlation, throttle time, number of brokers
  [ "${answer:8:8}" = 00000007 ] && [ $((16#${answer:24:8})) -ge 1 ]
}

# ---------------------------------------------------------------- the schema registry

start_registry() {
  local home=$STACK/registry jar
  rm -rf "$home/tmp"
  mkdir -p "$home/tmp"
  jar=$(compgen -G "$JARS/registry/*-runner.jar")
  # A file, and every write at once: topics keep the ids that were given out, so the registry must too.
  local url="jdbc:h2:file:$home/registry;WRITE_DELAY=0"
  launch registry "$JAVA" -Xmx384m "${JAVA_FLAGS[@]}" "-Djava.io.tmpdir=$home/tmp" \
    -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=${PORT[registry]}" -Dquarkus.log.console.color=false \
    "-Dregistry.datasource.url=$url" "-Dquarkus.datasource.jdbc.url=$url" -jar "$jar"
}

answers_registry() {
  curl -q -fsS -o /dev/null --noproxy '*' --max-time 5 "http://127.0.0.1:${PORT[registry]}/apis/ccompat/v7/subjects" 2>/dev/null
}

# ---------------------------------------------------------------- mail

start_mail() {
  local more=()
  if [ -n "$SECURE" ]; then
    more=(--tls-cert "$STACK/tls/server.pem" --tls-key "$STACK/tls/server.key" --require-starttls
      --auth "carillon:$(secret SMTP_PASSWORD)")
  fi
  launch mail "$PYTHON" "$HERE/mail-catcher" --port "${PORT[mail]}" --http-port "${PORT[inbox]}" --dir "$STACK/mail" "${more[@]}"
}

answers_mail() {
  local line
  # shellcheck disable=SC2016 # expanded by the inner bash
  line=$(timeout 3 "$BASH" -c '
    exec 3<>"/dev/tcp/127.0.0.1/$0" && read -r line <&3 && printf "%s" "$line" && printf "QUIT\r\n" >&3' "${PORT[mail]}" 2>/dev/null) || return 1
  [[ $line = 220* ]] &&
    curl -q -fsS -o /dev/null --noproxy '*' --max-time 5 "http://127.0.0.1:${PORT[inbox]}/api/count" 2>/dev/null
}

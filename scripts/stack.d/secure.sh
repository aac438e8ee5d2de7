# shellcheck shell=bash
# What a secured stack has more: certificates, users, a proxy before the registry. Sourced by scripts/stack.

# A stack is secured from its first up on, or never: Kafka's users come with its data.
ask_secure() {
  [ -z "$SECURE" ] || return 0
  ! stack_exists || die "stack '$STACK_NAME' exists and is not secured. Choose another name, or: scripts/stack down --purge"
  lock_stack
  make_folders
  : >"$STACK/secure"
  be_secure
}

make_secure() {
  make_certificates
  make_secret_files
}

# An authority of this stack's own, and two certificates by it.
make_certificates() {
  local tls=$STACK/tls
  [ ! -e "$tls" ] || return 0
  rm -rf "$tls.new"
  mkdir -p "$tls.new"
  (
    cd "$tls.new"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 3650 \
      -subj "/CN=Carillon stack $STACK_NAME" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
    sign server /CN=localhost serverAuth
    # The broker is a client of the controller too.
    sign broker /CN=carillon-kafka serverAuth,clientAuth
    cat broker.key broker.pem ca.pem >kafka.pem
    cat server.pem server.key >proxy.pem
    rm ./*.csr ./*.ext ./*.srl
  ) >"$LOGS/certificates.log" 2>&1 || die "openssl could not make certificates: see $LOGS/certificates.log"
  # Postgres, another user, reads what is no secret.
  chmod 755 "$tls.new"
  chmod 644 "$tls.new/ca.pem"
  mv "$tls.new" "$tls"
}

sign() { # sign NAME SUBJECT USAGE
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=%s\n' "$3" >"$1.ext"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile "$1.ext" -out "$1.pem"
}

# One folder for each service with what only it may know, each secret in a file. A file that is there is left alone: it may
# hold what a secret was changed to.
make_secret_files() {
  local service folder
  for service in $(services); do
    folder=$STACK/services/$service
    mkdir -p "$folder"
    keep_file "$folder/database-url" "$(database_url "carillon_${service//-/_}" "$(service_secret "$service" DATABASE_PASSWORD)")"
    keep_file "$folder/kafka-password" "$(service_secret "$service" KAFKA_PASSWORD)"
    keep_file "$folder/schema-registry-password" "$(service_secret "$service" SCHEMA_REGISTRY_PASSWORD)"
  done
  keep_file "$STACK/services/email-sender/smtp-password" "$(secret SMTP_PASSWORD)"
  keep_file "$STACK/services/audit-sink/audit-seal-key" "$(secret AUDIT_SEAL_KEY)"
  for service in api email-sender; do keep_file "$STACK/services/$service/link-key" "$(secret LINK_KEY)"; done
  mkdir -p "$STACK/kafka"
  cat >"$STACK/kafka/owner.properties" <<PROPERTIES
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="carillon" password="$(secret KAFKA_PASSWORD)";
ssl.truststore.type=PEM
ssl.truststore.location=$STACK/tls/ca.pem
PROPERTIES
}

keep_file() { # keep_file PATH TEXT
  [ -e "$1" ] || printf '%s\n' "$2" >"$1"
}

env_of_service() {
  local service=$1
  local known
  known=$(services | tr '\n' ' ')
  # Not by `services | grep -q`, which ends at the first find and leaves the writer with a broken pipe.
  case " $known" in *" $service "*) ;; *) die "there is no service '$service'. Services: $known" ;; esac
  if [ -z "$SECURE" ]; then
    show DATABASE_URL "$(database_url "carillon_${service//-/_}" "$(service_secret "$service" DATABASE_PASSWORD)")"
    env_of_parts
  else
    show DATABASE_URL_FILE "$STACK/services/$service/database-url"
    env_of_parts
    show KAFKA_SASL_USERNAME "$service"
    show KAFKA_SASL_PASSWORD_FILE "$STACK/services/$service/kafka-password"
    show SCHEMA_REGISTRY_USERNAME "$service"
    show SCHEMA_REGISTRY_PASSWORD_FILE "$STACK/services/$service/schema-registry-password"
    case $service in
      email-sender) show SMTP_PASSWORD_FILE "$STACK/services/$service/smtp-password" ;;
      audit-sink) show AUDIT_SEAL_KEY_FILE "$STACK/services/$service/audit-seal-key" ;;
    esac
  fi
  case $service in
    api | email-sender)
      if [ -n "$SECURE" ]; then
        show LINK_KEY_FILE "$STACK/services/$service/link-key"
      else
        show LINK_KEY "$(secret LINK_KEY)"
      fi
      ;;
  esac
  [ "$service" != api ] || show JWT_PRIVATE_KEY_FILE "$STACK/jwt.pem"
}

# The owner's, who may do everything.
env_of_owner() {
  show KAFKA_SASL_USERNAME carillon
  show KAFKA_SASL_PASSWORD "$(secret KAFKA_PASSWORD)"
  show KAFKA_COMMAND_CONFIG "$STACK/kafka/owner.properties"
  show SCHEMA_REGISTRY_USERNAME carillon
  show SCHEMA_REGISTRY_PASSWORD "$(secret SCHEMA_REGISTRY_PASSWORD)"
  show SMTP_PASSWORD "$(secret SMTP_PASSWORD)"
  show AUDIT_SEAL_KEY "$(secret AUDIT_SEAL_KEY)"
}

# ---------------------------------------------------------------- the parts

# Everybody comes by TLS, and with a password.
secure_postgres() {
  local home=$1
  rm -rf "$home/tls"
  mkdir "$home/tls"
  cp "$STACK/tls/server.pem" "$STACK/tls/server.key" "$home/tls/"
  printf 'hostssl all all 127.0.0.1/32 scram-sha-256\n' >"$home/data/pg_hba.conf"
  [ "$(id -u)" -ne 0 ] || chown -R postgres: "$home/tls" "$home/data/pg_hba.conf"
}

# The users that Kafka is formatted with: the owner, each service, and the operator.
scram_users() {
  local service
  printf -- '--add-scram\nSCRAM-SHA-512=[name=carillon,password=%s]\n' "$(secret KAFKA_PASSWORD)"
  for service in $(services); do
    printf -- '--add-scram\nSCRAM-SHA-512=[name=%s,password=%s]\n' "$service" "$(service_secret "$service" KAFKA_PASSWORD)"
  done
}

# Over TLS, and before any login: asks which requests it knows.
answers_kafka_secured() {
  local answer
  # length 15; ApiVersions (18) version 0, correlation 7, client "stack"
  answer=$({ printf '\0\0\0\x0f\0\x12\0\0\0\0\0\x07\0\x05stack'; sleep 0.5; } |
    timeout 5 openssl s_client -quiet -no_ign_eof -connect "127.0.0.1:${PORT[kafka]}" -CAfile "$STACK/tls/ca.pem" -verify_return_error 2>/dev/null |
    head -c 8 | od -An -v -tx1 | tr -d ' \n') || true # whoever writes on after these 8 bytes fails
  [ "${answer:8:8}" = 00000007 ]
}

start_proxy() {
  local home=$STACK/proxy text users='' service
  mkdir -p "$home"
  users="  user carillon insecure-password $(secret SCHEMA_REGISTRY_PASSWORD)"
  for service in $(services); do
    users+=$'\n'"  user $service insecure-password $(service_secret "$service" SCHEMA_REGISTRY_PASSWORD)"
  done
  text=$(<"$HERE/haproxy.cfg")
  text=${text//@USERS@/"$users"}
  text=${text//@PORT@/"${PORT[proxy]}"}
  text=${text//@BACKEND_PORT@/"${PORT[registry]}"}
  printf '%s\n' "${text//@TLS@/"$STACK/tls"}" >"$home/haproxy.cfg"
  launch proxy "$(find_haproxy)" -db -q -f "$home/haproxy.cfg"
}

# It stands there with or without a registry behind it, and refuses whoever has no password.
answers_proxy() {
  [ "$(curl -q -sS -o /dev/null --noproxy '*' --max-time 5 --cacert "$STACK/tls/ca.pem" -w '%{http_code}' \
    "https://127.0.0.1:${PORT[proxy]}/" 2>/dev/null)" = 401 ]
}

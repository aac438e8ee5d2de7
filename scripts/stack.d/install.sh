# shellcheck shell=bash
# The programs and jars that the stack is made of. Sourced by scripts/stack.

# Debian 12's PostgreSQL is 15, the one Carillon is tested with; a newer one does too.
find_postgres() {
  local folder
  for folder in ${CARILLON_PG_BINDIR:+"$CARILLON_PG_BINDIR"} /usr/lib/postgresql/15/bin \
    $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr) /usr/pgsql-15/bin /usr/local/bin /usr/bin; do
    if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/psql" ]; then
      PG_BIN=$folder
      return 0
    fi
  done
  return 1
}

find_java() {
  local java version
  for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java || true)"; do
    [ -x "$java" ] || continue
    # `java -version` costs 50 ms and more: believe the release file beside it where there is one.
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$(dirname "$(readlink -f "$java")")/../release" 2>/dev/null || true)
    [ -n "$version" ] || version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge 17 ]; then
      JAVA=$java
      return 0
    fi
  done
  return 1
}

# Debian's aiosmtpd belongs to /usr/bin/python3, which need not be the first python3 of the PATH.
find_python() {
  local python
  for python in ${CARILLON_PYTHON:+"$CARILLON_PYTHON"} /usr/bin/python3 "$(command -v python3 || true)"; do
    if [ -x "$python" ] && (cd / && env -u PYTHONPATH "$python" -c 'import aiosmtpd.smtp') 2>/dev/null; then
      PYTHON=$python
      return 0
    fi
  done
  return 1
}

# It is in a folder of administrators, which not everybody's PATH has.
find_haproxy() { PATH=$PATH:/usr/sbin command -v haproxy; }

# Fills PG_BIN, JAVA, PYTHON and remembers them, so that later calls need not look again.
find_programs() {
  PG_BIN='' JAVA='' PYTHON=''
  if [ -e "$STACK/programs" ]; then
    { read -r PG_BIN && read -r JAVA && read -r PYTHON; } <"$STACK/programs" || true
    if [ -x "$PG_BIN/postgres" ] && [ -x "$JAVA" ] && [ -x "$PYTHON" ] &&
      [ "${CARILLON_PG_BINDIR:-$PG_BIN}" = "$PG_BIN" ] && [ "${CARILLON_PYTHON:-$PYTHON}" = "$PYTHON" ] &&
      { [ -z "$SECURE" ] || find_haproxy >/dev/null; }; then
      return 0
    fi
  fi
  install_packages
  printf '%s\n' "$PG_BIN" "$JAVA" "$PYTHON" >"$STACK/programs"
}

# Says on stdout which Debian packages are missing. Sets PG_BIN, JAVA, PYTHON.
missing_packages() {
  MISSING=()
  find_postgres || MISSING+=(postgresql)
  find_java || MISSING+=(default-jre-headless)
  find_python || MISSING+=(python3 python3-aiosmtpd)
  [ -e "$(jars_folder)" ] || command -v mvn >/dev/null || MISSING+=(maven)
  command -v curl >/dev/null || MISSING+=(curl)
  command -v openssl >/dev/null || MISSING+=(openssl)
  [ -z "$SECURE" ] || find_haproxy >/dev/null || MISSING+=(haproxy)
  [ "$(id -u)" -ne 0 ] || command -v setpriv >/dev/null || MISSING+=(util-linux)
}

install_packages() {
  missing_packages
  [ ${#MISSING[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    die "missing on this machine. As root: apt-get install --no-install-recommends ${MISSING[*]}
       (on other systems: PostgreSQL 15, Java 17, Maven, Python 3 with aiosmtpd, curl, openssl)"
  fi
  (
    umask 022 # ours is strict, and packages make folders for everybody
    exec 8</var/lib/dpkg
    flock -n 8 || { say "Waiting for another stack that installs packages…" && flock -w 1800 8; }
    missing_packages # another stack may have installed them meanwhile
    [ ${#MISSING[@]} -gt 0 ] || exit 0
    say "Installing Debian packages: ${MISSING[*]}"
    # Debian's postgresql makes and starts a cluster on port 5432 when it is installed. We want only the programs.
    dropin=/etc/postgresql-common/createcluster.d/carillon-stack.conf
    trap 'rm -f "$dropin"' EXIT
    mkdir -p "${dropin%/*}"
    echo 'create_main_cluster = false' >"$dropin"
    export DEBIAN_FRONTEND=noninteractive
    {
      apt-get update && apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 "${MISSING[@]}"
    } </dev/null >"$LOGS/install.log" 2>&1 8>&- || {
      tail -n 20 "$LOGS/install.log" >&2
      die "apt-get failed (all of it: $LOGS/install.log). Try it by hand: apt-get install --no-install-recommends ${MISSING[*]}"
    }
  ) || exit 1
  missing_packages
  [ ${#MISSING[@]} -eq 0 ] || die "still missing after the installation: ${MISSING[*]}. See $LOGS/install.log"
}

# The folder of the jars is named by what is in it, so a changed pom.xml never meets old jars.
jars_folder() {
  [ -n "${JARS:-}" ] || JARS=$CACHE/jars-$(sha256sum <"$HERE/pom.xml" | cut -c1-16)
  printf '%s' "$JARS"
}

# Fetches once: into a folder of its own, renamed when it is whole, one process at a time.
fetch_jars() {
  JARS=$(jars_folder)
  [ ! -e "$JARS" ] || return 0
  mkdir -p "$CACHE"
  (
    exec 8>>"$CACHE/lock"
    if ! flock -n 8; then
      say "Waiting for another stack that fetches the jars…"
      flock -w 1800 8 || die "cannot lock $CACHE/lock."
    fi
    [ ! -e "$JARS" ] || exit 0
    say "Fetching Kafka and the registry from Maven Central (200 MB, once, into $CACHE)…"
    rm -rf "$JARS.part"
    mvn -B -q -C -f "$HERE/pom.xml" -Dstyle.color=never "-Dmaven.repo.local=$CACHE/maven" "-Dstack.out=$JARS.part" \
      package </dev/null >"$LOGS/fetch.log" 2>&1 8>&- || {
      tail -n 20 "$LOGS/fetch.log" >&2
      die "Maven could not fetch the jars (all of it: $LOGS/fetch.log). Is Maven Central, or a mirror in ~/.m2/settings.xml, in reach?"
    }
    compgen -G "$JARS.part/kafka/kafka_2.13-*.jar" >/dev/null && compgen -G "$JARS.part/registry/*-runner.jar" >/dev/null ||
      die "Maven ended well but the jars are not in $JARS.part."
    chmod -R a+rX "$JARS.part"
    mv "$JARS.part" "$JARS"
    # Maven's own copies are not needed again.
    rm -rf "$CACHE/maven"
  ) || exit 1
}

#!/bin/sh
# Leaves a redis-server that runs: the system's, else Debian's package unpacked below .tools/. No root, no service.
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/.tools

refuse() {
  echo "builder: $1" >&2
  exit 1
}

runs() {
  "$1" --version >/dev/null 2>&1
}

if runs redis-server || runs valkey-server || runs "$tools/bin/redis-server"; then exit 0; fi

for program in apt-get apt-cache dpkg-deb dpkg-query; do
  command -v "$program" >/dev/null 2>&1 ||
    refuse 'expected redis-server or valkey-server on the PATH, got neither: install redis (brew install redis, dnf install valkey, apk add redis, …)'
done

echo "builder: no redis-server on the PATH: fetching Debian's package into .tools/" >&2
mkdir -p "$tools"
work=$(mktemp -d "$tools/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
# APT's own user cannot write here; only its warning about that is lost.
chmod 755 "$work"
options=''

apt() {
  program=$1
  shift
  # The options are words without spaces.
  # shellcheck disable=SC2086
  "$program" $options "$@" 2>>"$work/errors"
}

# Both packages and the shared libraries that they need and the system has not.
wanted() {
  echo redis-server
  echo redis-tools
  apt apt-cache depends --recurse --no-pre-depends --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances redis-tools | grep -E '^(lib|lua)[a-z0-9.+-]*$' | sort -u | while read -r package; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^.i' || echo "$package"
  done
}

download() {
  rm -rf "$work/debs"
  mkdir "$work/debs"
  names=$(wanted)
  # shellcheck disable=SC2086
  (cd "$work/debs" && apt apt-get -qq download $names >/dev/null)
}

# The system's package lists may be missing or old; lists of our own need no root.
private_lists() {
  case $work in *[[:space:]]*) refuse 'expected a checkout whose path has no spaces, to fetch package lists in; or install redis-server' ;; esac
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
  options="-o Dir::State=$work/state -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache=$work/cache"
  options="$options -o APT::Update::Post-Invoke-Success::=true -o APT::Sandbox::User=$(id -un)"
  apt apt-get -qq update >/dev/null || true
}

download || { private_lists && download; } ||
  refuse "redis-server could not be fetched ($(grep '^E: ' "$work/errors" | tail -n 1)): install redis-server"

mkdir "$work/redis"
for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/redis"; done

# A folder of its own for each fetch, named by the one file that is put in place last: two at once do no harm.
unpacked=redis.${work##*.}
mv "$work/redis" "$tools/$unpacked"
mkdir -p "$tools/bin"
cat >"$work/redis-server" <<WRAPPER
#!/bin/sh
# Starts the unpacked Redis with the libraries that were unpacked with it.
root=\$(cd "\$(dirname "\$0")/../$unpacked" && pwd) || exit 1
for folder in "\$root"/usr/lib/*-linux-* "\$root"/lib/*-linux-* "\$root"/usr/lib "\$root"/lib; do
  if [ -d "\$folder" ]; then path=\${path:+\$path:}\$folder; fi
done
LD_LIBRARY_PATH=\$path\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH} exec "\$root/usr/bin/redis-server" "\$@"
WRAPPER
chmod 755 "$work/redis-server"
mv "$work/redis-server" "$tools/bin/redis-server"
version=$("$tools/bin/redis-server" --version 2>&1) ||
  refuse "the fetched redis-server does not run ($(echo "$version" | head -n 1)): install redis-server"
echo "builder: fetched $(echo "$version" | cut -d ' ' -f 1-3)" >&2

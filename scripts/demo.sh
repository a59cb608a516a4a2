#!/bin/sh
# The whole system at work on this checkout's own sources: a job is scheduled, run twice, its artifacts fetched and checked.
# Everything it makes lies in .demo/; nothing of it runs on when it ends.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
demo=$root/.demo
data=$demo/data
up=''

say() {
  printf '\n# %s\n' "$*"
}

refuse() {
  echo "demo: $*" >&2
  exit 1
}

# TERM drains; what has not ended after half a minute is killed.
stop_up() {
  [ -n "$up" ] || return 0
  kill -TERM "$up" 2>/dev/null || true
  left=300
  while kill -0 "$up" 2>/dev/null; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || kill -KILL "$up" 2>/dev/null || true
    sleep 0.1
  done
  ended=0
  wait "$up" || ended=$?
  up=''
  return "$ended"
}

finish() {
  status=$?
  trap - EXIT
  stop_up || true
  rm -f "$demo/pid"
  case $status in
    0) ;;
    13? | 14?) echo 'demo: interrupted; everything is stopped' >&2 ;;
    *) echo 'demo: failed; what the system said is in .demo/up.log' >&2 ;;
  esac
  exit "$status"
}

# Shows what is typed, then does it.
builder() {
  line='$ builder'
  for word in "$@"; do
    word=${word#"$root/"}
    case $word in *' '*) word="'$word'" ;; esac
    line="$line $word"
  done
  printf '\n%s\n' "$line"
  "$root/bin/builder" "$@"
}

field() {
  node -e 'const value = JSON.parse(require("node:fs").readFileSync(0, "utf8")); console.log(process.argv.slice(1).reduce((part, key) => part?.[key], value) ?? "")' "$@"
}

# Answers of an environment that points elsewhere are of no use here.
for name in $(env | sed -n 's/^\(BUILDER_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
PATH=$PATH:$root/.tools/bin
XDG_CONFIG_HOME=$demo/config
export PATH XDG_CONFIG_HOME

for program in git tar gzip sha256sum; do
  command -v "$program" >/dev/null || refuse "expected $program on the PATH, got none"
done
commit=$(git rev-parse --short HEAD 2>/dev/null) || refuse 'expected a git checkout with a commit, to make the archive of its sources from; got none'

mkdir -p "$demo"
if [ -s "$demo/pid" ] && kill -0 "$(cat "$demo/pid")" 2>/dev/null; then refuse 'another demo runs in this checkout'; fi
echo $$ >"$demo/pid"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
rm -rf "$data" "$demo/config" "$demo/first" "$demo/second"

version=$(field version <package.json)
name=builder-$version
say "The input: this repository's sources at $commit"
printf '$ git archive --prefix=%s/ -o .demo/sources.tar HEAD\n' "$name"
git archive --prefix="$name/" -o "$demo/sources.tar" HEAD

say 'Redis, storage, server and one worker, on one machine'
printf '$ builder up --data .demo/data --port 0 &\n'
"$root/bin/builder" up --data "$data" --port 0 >"$demo/up.log" 2>&1 </dev/null &
up=$!
left=600
until [ -s "$data/client.json" ] && BUILDER_SERVER=$(field server <"$data/client.json" 2>/dev/null) && [ -n "$BUILDER_SERVER" ] &&
  grep -qF "$BUILDER_SERVER" "$demo/up.log"; do
  kill -0 "$up" 2>/dev/null || refuse "up ended: $(tail -n 1 "$demo/up.log")"
  left=$((left - 1))
  [ "$left" -gt 0 ] || refuse 'up did not serve within a minute'
  sleep 0.1
done
BUILDER_TOKEN=$(field token <"$data/client.json")
export BUILDER_SERVER BUILDER_TOKEN
grep -F "$BUILDER_SERVER" "$demo/up.log" | tail -n 1
platform=$("$root/bin/builder" info --json | field workers 0 platforms 0)
[ -n "$platform" ] || refuse 'expected a worker with a platform, got none'

say 'A job: every day from now on, and whenever it is asked for'
cd "$demo"
builder schedule source-release "$platform" "$root/examples/source-release.sh" --input sources.tar --period daily
builder info

say 'Run it now, twice, and follow it'
builder execute source-release --follow
builder execute source-release --follow
builder runs source-release
runs=$("$root/bin/builder" runs source-release --json)

say 'What it left'
# The folder to fetch into, and which of the latest runs to fetch.
fetch() {
  id=$(echo "$runs" | field runs "$2" id)
  [ "$1" = second ] || builder artifacts "$id"
  builder download "$id" -o "$1"
  printf '\n$ (cd %s && sha256sum -c SHA256SUMS)\n' "$1"
  (cd "$1" && sha256sum -c SHA256SUMS) || refuse "the $1 run's artifacts are not what its SHA256SUMS says"
}
fetch first 1
fetch second 0

say 'The same sources gave the same tarball, byte for byte'
digests=$(sha256sum "first/$name.tar.gz" "second/$name.tar.gz")
echo "$digests"
[ "$(echo "$digests" | cut -d ' ' -f 1 | sort -u | wc -l)" = 1 ] || refuse 'expected two tarballs of one digest, got two digests'
gzip -dc "first/$name.tar.gz" | tar -tf - >/dev/null || refuse 'expected a tarball that can be read, got something else'

say 'Its report begins'
printf '$ head -n 12 first/report.txt\n'
head -n 12 first/report.txt
cd "$root"

say 'The end'
stop_up || refuse "up ended with $?, expected 0: $(tail -n 1 "$demo/up.log")"
cat <<END
Everything is stopped. The artifacts are in .demo/first, what the system kept is in .demo/data:
\`bin/builder up --data .demo/data\` goes on with it, and prints where its pages are.
END

#!/bin/sh
# Dumps a database and keeps the newest dumps.
#
# DATABASE_URL  postgresql://USER:PASSWORD@HOST:PORT/NAME, or sqlite:///absolute/path/of/file
# DUMP_FOLDER   where dumps are kept beside the run's artifacts, on a worker with --sandbox unshare or none (default: nowhere)
# DUMP_KEEP     how many dumps stay in DUMP_FOLDER (default: 14)
# DUMP_NAME     how they are called (default: the database's name)
#
# Artifacts: NAME-YYYYMMDDTHHMMSSZ.dump (pg_restore reads it) or ….sqlite3.gz, and its .sha256
# Needs:     pg_dump and pg_restore as new as the server, or sqlite3
#
# A dump counts only when it can be read back; older ones go only after the new one is whole and in place.
set -eu
LC_ALL=C
export LC_ALL
umask 077

say() {
  echo "==> $*"
}

refuse() {
  echo "nightly-dump: $*" >&2
  exit 1
}

need() {
  for program in "$@"; do
    command -v "$program" >/dev/null || refuse "expected $program on this worker, got none: install $package"
  done
}

# %41 is A: passwords in URLs are written so.
unescaped() {
  printf '%s' "$1" | awk '
    BEGIN { digits = "0123456789ABCDEF" }
    { while (match($0, /%[0-9A-Fa-f][0-9A-Fa-f]/)) {
        high = index(digits, toupper(substr($0, RSTART + 1, 1))) - 1
        low = index(digits, toupper(substr($0, RSTART + 2, 1))) - 1
        plain = plain substr($0, 1, RSTART - 1) sprintf("%c", 16 * high + low)
        $0 = substr($0, RSTART + 3)
      }
      print plain $0 }'
}

dump_postgresql() {
  package=postgresql-client
  need pg_dump pg_restore
  # The password goes by the environment: arguments are seen by everybody in ps.
  login=${url#*://}
  login=${login%%/*}
  case $login in
    *:*@*)
      user=${login%@*}
      PGPASSWORD=$(unescaped "${user#*:}")
      export PGPASSWORD
      url="${url%%://*}://${user%%:*}@${url#*"$user"@}"
      ;;
  esac
  pg_dump --format=custom --no-password --dbname="$url" --file="$work/dump"
  pg_restore --list "$work/dump" >"$work/contents"
  echo "    $(grep -c ' TABLE DATA ' "$work/contents" || true) tables"
}

dump_sqlite() {
  package=sqlite3
  need sqlite3 gzip
  [ -r "$database" ] || refuse "expected a readable database, got none at $database"
  # A copy by SQLite itself is of one moment, even while others write.
  sqlite3 -bail "$database" ".timeout 30000" ".backup '$work/copy'"
  answer=$(sqlite3 -bail "$work/copy" 'PRAGMA integrity_check;' | head -n 1)
  [ "$answer" = ok ] || refuse "expected a sound database, got: $answer"
  echo "    $(sqlite3 "$work/copy" "SELECT count(*) FROM sqlite_master WHERE type = 'table';") tables"
  gzip -n <"$work/copy" >"$work/dump"
  gzip -t "$work/dump"
}

# Into place under a temporary name, synced, then renamed: whoever looks sees a whole dump or none.
keep_in_folder() {
  say "storing it in $folder, keeping the newest $keep"
  for each in "$file" "$file.sha256"; do
    cp "$each" "$folder/.$each.new"
    sync "$folder/.$each.new"
    mv "$folder/.$each.new" "$folder/$each"
  done
  (cd "$folder" && sha256sum --quiet -c "$file.sha256") || refuse "what arrived in $folder is not what was sent"
  # The moment in the name says which is newest; only names of this script's own form are ever removed.
  digit='[0-9]'
  date="$digit$digit$digit$digit$digit$digit$digit$digit"
  time="$digit$digit$digit$digit$digit$digit"
  find "$folder" -maxdepth 1 -type f -name "$name-${date}T${time}Z.$suffix" | sort -r | tail -n "+$((keep + 1))" |
    while read -r old; do
      rm -f "$old" "$old.sha256"
      echo "    removed $(basename "$old")"
    done
}

url=${DATABASE_URL:-}
folder=${DUMP_FOLDER:-}
keep=${DUMP_KEEP:-14}
case $url in
  postgresql://?* | postgres://?*)
    database=${url%%\?*}
    database=${database##*/}
    suffix=dump
    ;;
  sqlite:///?*)
    database=/${url#sqlite:///}
    suffix=sqlite3.gz
    ;;
  '') refuse 'expected DATABASE_URL=postgresql://… or sqlite:///…, got nothing' ;;
  *) refuse "expected DATABASE_URL=postgresql://… or sqlite:///…, got ${url%%:*}:…" ;;
esac
name=${DUMP_NAME:-$(basename "$database")}
case $name in
  '' | .* | *[!A-Za-z0-9._-]*) refuse "expected DUMP_NAME of letters, digits, dot, dash and underscore, got $name" ;;
esac
case $keep in
  '' | 0* | *[!0-9]*) refuse "expected DUMP_KEEP of 1 or more, got $keep" ;;
esac
if [ -n "$folder" ]; then
  [ -d "$folder/" ] || refuse "expected DUMP_FOLDER to be a folder, got $folder"
  [ -w "$folder" ] ||
    refuse "expected DUMP_FOLDER to be writable, got $folder, which is not (in a worker's bwrap sandbox only the run's own folder is)"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
file=$name-$(date -u +%Y%m%dT%H%M%SZ).$suffix

say "dumping $name"
if [ "$suffix" = dump ]; then dump_postgresql; else dump_sqlite; fi
[ -s "$work/dump" ] || refuse 'expected a dump, got an empty file'
mv "$work/dump" "$file"
sha256sum "$file" >"$file.sha256"
echo "    $file, $(wc -c <"$file") bytes"
[ -z "$folder" ] || keep_in_folder
say 'done'

#!/bin/sh
# Makes a release out of sources: checks them, packs them reproducibly, sums them up.
#
# Input:     sources.tar, an archive with one folder at its top: git archive --prefix=NAME-VERSION/ HEAD
# Artifacts: NAME-VERSION.tar.gz, report.txt, SHA256SUMS
# Needs:     tar, gzip, sha256sum, find, awk, sort, wc: what a minimal Debian has
#
# The same sources give the same tarball, byte for byte, on any machine and at any time: names are sorted, owners are
# numbers, modes are plain, and the one moment in it is the newest in the archive, which git sets to that of the commit.
set -eu
LC_ALL=C
export LC_ALL
umask 022

input=${SOURCES:-sources.tar}

say() {
  echo "==> $*"
}

refuse() {
  echo "source-release: $*" >&2
  exit 1
}

[ -r "$input" ] || refuse "expected the input $input, got none"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "checking the names in $input"
tar -tf "$input" >"$work/names" || refuse "expected a tar archive, got something else: $input"
awk '/^\// || /(^|\/)\.\.(\/|$)/ { print; exit 1 }' "$work/names" >"$work/bad" ||
  refuse "expected names that stay below one folder, got $(cat "$work/bad")"
name=$(cut -d / -f 1 "$work/names" | sort -u)
[ -n "$name" ] || refuse "expected files in $input, got none"
[ "$(echo "$name" | wc -l)" -eq 1 ] || refuse "expected one folder at the top, got $(echo "$name" | wc -l)"
echo "    $(grep -c -v '/$' "$work/names") files in $name"

say 'unpacking'
mkdir "$work/tree"
tar -xf "$input" -C "$work/tree" --no-same-owner
[ -d "$work/tree/$name" ] || refuse "expected a folder at the top, got the file $name"
strange=$(cd "$work/tree" && find . ! -type f ! -type d ! -type l -print | head -n 1)
[ -z "$strange" ] || refuse "expected files, folders and links, got $strange"

say 'checking the shell scripts'
find "$work/tree/$name" -type f | sort >"$work/files"
: >"$work/scripts"
while read -r file; do
  case $(head -n 1 "$file" | tr -d '\000') in
    '#!/bin/sh'* | '#!/usr/bin/env sh'*) shell='sh' ;;
    '#!/bin/bash'* | '#!/usr/bin/env bash'*) shell='bash' ;;
    *) continue ;;
  esac
  command -v "$shell" >/dev/null || continue
  "$shell" -n "$file" || refuse "expected a script that $shell can read: ${file#"$work/tree/"}"
  echo "$file" >>"$work/scripts"
done <"$work/files"
echo "    $(wc -l <"$work/scripts") scripts are well formed"

moment=$(find "$work/tree/$name" -type f -printf '%Ts\n' | sort -n | tail -n 1)
[ -n "$moment" ] || refuse "expected files in $name, got none"
say "packing $name.tar.gz as of $(date -u -d "@$moment" '+%Y-%m-%d %H:%M:%S') UTC"
tar -c -C "$work/tree" --sort=name --format=gnu --mtime="@$moment" --owner=0 --group=0 --numeric-owner \
  --mode='u+rwX,go+rX,go-w' "$name" >"$work/release.tar"
gzip -9 -n <"$work/release.tar" >"$name.tar.gz"
gzip -t "$name.tar.gz"
echo "    $(wc -c <"$name.tar.gz") bytes"

say 'counting lines'
{
  echo "$name"
  echo
  printf '%8s %6s  %s\n' lines files folder
  while read -r file; do
    folder=$(dirname "${file#"$work/tree/$name/"}")
    printf '%s %s\n' "$(wc -l <"$file")" "$folder"
  done <"$work/files" | awk '
    { folder = $0; sub(/^[0-9]+ /, "", folder); split(folder, part, "/")
      if (part[2] != "") folder = part[1] "/" part[2]
      lines[folder] += $1; files[folder]++; allLines += $1; allFiles++ }
    END { for (folder in lines) printf "%8d %6d  %s\n", lines[folder], files[folder], folder | "sort -k 3"
          close("sort -k 3"); printf "%8d %6d  in all\n", allLines, allFiles }'
} >report.txt
tail -n 1 report.txt

say 'writing SHA256SUMS'
sha256sum "$name.tar.gz" report.txt >SHA256SUMS
sed 's/^/    /' SHA256SUMS

#!/bin/sh
# Builds and tests a C program.
#
# Input:     hello.c
# Artifacts: hello, hello.sha256
# Needs:     a C compiler on the worker: cc, gcc or clang; CC names another
set -eu

refuse() {
  echo "c-program: $*" >&2
  exit 1
}

[ -r hello.c ] || refuse 'expected the input hello.c, got none'
compiler=${CC:-}
for candidate in cc gcc clang; do
  [ -n "$compiler" ] || ! command -v "$candidate" >/dev/null || compiler=$candidate
done
[ -n "$compiler" ] || refuse 'expected a C compiler on this worker (cc, gcc or clang), got none: install gcc, or use a platform that has one'

echo "==> building with $("$compiler" --version | head -n 1)"
# No path of this folder in the program: the same source gives the same bytes.
"$compiler" -std=c99 -O2 -Wall -Wextra -Werror -ffile-prefix-map="$PWD=." -o hello hello.c

echo '==> testing'
count=0
expect() {
  count=$((count + 1))
  [ "$2" = "$3" ] || refuse "test $count, $1: expected $2, got $3"
  echo "ok $count - $1"
}
status() {
  "$@" >/dev/null 2>&1 && echo 0 || echo $?
}
expect 'greets the world' 'Hello, world!' "$(./hello)"
expect 'greets by name' 'Hello, Ada!' "$(./hello Ada)"
expect 'takes one name only' 2 "$(status ./hello Ada Grace)"
[ ! -w /dev/full ] || expect 'tells a failed write' 1 "$(./hello >/dev/full && echo 0 || echo $?)"

sha256sum hello >hello.sha256
echo "==> built hello, $(wc -c <hello) bytes"

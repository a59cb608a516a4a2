#!/bin/sh
# Template: builds an opam package with orb and keeps all that is needed to build it again and compare.
#
# Parameters: %%PACKAGE%%, the opam package, which `builder orb-build` fills in; %%PLATFORM%% is filled in by builder
# Artifacts:  what the package installs, *.build-hashes, build-environment, system-packages, opam-switch
# Needs:      opam, orb (opam install orb), git, a C compiler and the package's system packages on the worker; a network
#
# ORB_REPOS     opam repositories, NAME:URL separated by commas (default: opam's own)
# ORB_COMPILER  the compiler's version (default: what the solver picks)
# ORB_DATE      seconds since 1970 that the build writes for now (default: now; what a rebuild needs is in build-environment)
set -eu

package='%%PACKAGE%%'

refuse() {
  echo "orb-build: $*" >&2
  exit 1
}

case $package in
  '' | -* | *[!A-Za-z0-9._+-]*) refuse "expected the name of an opam package, got $package" ;;
esac
for program in opam orb git; do
  command -v "$program" >/dev/null || refuse "expected $program on this worker (%%PLATFORM%%), got none"
done

# opam's own files go to the run's temporary folder: they are no artifacts, and go when the run ends.
OPAMROOT=$TMPDIR/opam
OPAMYES=1
OPAMCOLOR=never
OPAMNODEPEXTS=1
export OPAMROOT OPAMYES OPAMCOLOR OPAMNODEPEXTS
repos=${ORB_REPOS:-default:https://opam.ocaml.org}

echo "==> preparing opam $(opam --version)"
# The run has a sandbox of its own, and they seldom nest.
opam init --bare --no-setup --disable-sandboxing

echo "==> building $package on %%PLATFORM%%"
mkdir "$TMPDIR/out"
orb build --disable-sandboxing --solver-timeout=600 --switch-name="$TMPDIR/switch" --date="${ORB_DATE:-$(date +%s)}" \
  --out="$TMPDIR/out" --repos="$repos" ${ORB_COMPILER:+--compiler="$ORB_COMPILER"} "$package"

echo '==> keeping the results'
[ -n "$(ls "$TMPDIR/out")" ] || refuse 'expected results of orb, got none'
cp -R "$TMPDIR/out/." .
ls -l

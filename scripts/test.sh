#!/usr/bin/env bash
# test.sh LAYER…: runs layers of the tests (unit, runtime, containerd, cri, node, kubernetes) and says how many ran in each.
# The last line is `N passed, N failed`. ONLY=text runs the cases whose name has it. Called by make, which builds what is tested
# first.
set -uo pipefail
cd "$(dirname "$0")/.."
triple=$(uname -m)-unknown-linux-musl
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# A question that is asked until its answer is right makes an error each time, and a backtrace of each costs more than the question.
export RUST_LIB_BACKTRACE=${RUST_LIB_BACKTRACE:-0}
export WISP_BED=${WISP_BED:-/var/cache/wisp-bed}
# What `make install` installs is what is tested.
export WISP_BIN=$CARGO_TARGET_DIR/stage/usr/local/bin

log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=() passed=0 failed=0

# count LAYER SECONDS STATUS: adds up what the test binaries said; a binary that said nothing has failed.
count() {
  local p f
  p=$(grep -oE '^test result: .* ([0-9]+) passed' "$log" | awk '{n += $(NF-1)} END {print n+0}')
  f=$(grep -oE '; [0-9]+ failed;' "$log" | awk '{n += $2} END {print n+0}')
  [ "$3" != 0 ] && [ "$f" = 0 ] && f=1
  [ "$3" = 0 ] && [ "$p" = 0 ] && [ -z "${ONLY:-}" ] && f=1
  summary+=("$(printf '%-12s %5d passed, %d failed (%d s)' "$1" "$p" "$f" "$2")")
  case $1 in
    containerd) by_place 1.6 1.7 2.2 2.4 ;;
    cri) by_place 1.7/podsandbox 2.{2,4}/{podsandbox,shim} ;;
    kubernetes) by_place host pause uml own ;;
  esac
  passed=$((passed + p)) failed=$((failed + f))
}

# by_place PLACE…: the same for the cases whose names begin with each of these; what was not run here is said, and not counted
by_place() {
  local place results
  for place in "$@"; do
    results=$(grep -E "^test $place/" "$log") || continue
    summary+=("$(printf '  on %-14s %5d passed, %d failed%s' "$place" "$(grep -c ' ok$' <<<"$results")" \
      "$(grep -c ' FAILED$' <<<"$results")" "$(grep -c ' ignored$' <<<"$results" | sed 's/^0$//; s/.\+/, & not run here/')")")
  done
}

cargo_test() { cargo test --release --locked --target "$triple" "$@"; }
only() { cargo_test "$@" --no-fail-fast -- ${ONLY:+"$ONLY"}; }

# Own crates that are not optimized for their unit tests: it would take minutes, and save them nothing.
unoptimized=()
for folder in shim runtime/*; do
  name=$(sed -n '0,/^name = "\(.*\)"$/s//\1/p' "$folder/Cargo.toml")
  unoptimized+=(--config "profile.release.package.$name.opt-level=0")
done

# Libraries together with the program whose features they are built with: next to nothing is compiled anew, and the programs that
# the tests of a folder tests/ run are those that are built.
unit() {
  local packages status=0
  for packages in containerd-shim-wisp-v1 wisp-compiler wisp-bench; do
    only --package "$packages" --bins "${unoptimized[@]}" || status=1
  done
  for packages in \
    'wisp-guest wisp-engine wisp-memory' \
    'wisp wisp-reader wisp-images wisp-registry' \
    'wisp-runtime wisp-contract wisp-config wisp-cgroup wisp-entrypoint wisp-cache' \
    wisp-artifact; do
    # shellcheck disable=SC2046,SC2086 # they are words
    only $(printf -- '--package %s ' $packages) --lib --bins "${unoptimized[@]}" || status=1
  done
  for packages in 'wisp-guest wisp-engine wisp-memory' 'wisp wisp-reader wisp-images wisp-registry'; do
    # shellcheck disable=SC2046,SC2086 # they are words
    only $(printf -- '--package %s ' $packages) --test '*' || status=1
  done
  only --package wisp-tests --lib || status=1
  return $status
}
binary() { only --package wisp-tests --test "$1"; }

# The test binaries of all layers are built at once: each alone would leave processors idle.
binaries=()
for layer in "$@"; do
  case $layer in runtime | containerd | cri | node | kubernetes) binaries+=(--test "$layer") ;; esac
done
[ ${#binaries[@]} = 0 ] || cargo_test --package wisp-tests "${binaries[@]}" --no-run || exit 1

for layer in "$@"; do
  printf '\n== %s\n' "$layer"
  start=$SECONDS
  case $layer in
    unit) unit ;;
    runtime | containerd | cri | node | kubernetes) make --no-print-directory stage && binary "$layer" ;;
    *) echo "there is no layer '$layer'; there are unit, runtime, containerd, cri, node and kubernetes" ; false ;;
  esac </dev/null 2>&1 | tee "$log"
  count "$layer" $((SECONDS - start)) "${PIPESTATUS[0]}"
done

printf '\n'
printf '%s\n' "${summary[@]}"
case " $* " in *' containerd '*) echo "(many_tasks_leave_nothing ran ${WISP_TESTS_TASKS:-1000} tasks on each version; WISP_TESTS_TASKS changes that)" ;; esac
case " $* " in *' kubernetes '*) [ -n "${KUBECONFIG:-}" ] || echo "(on ${NODES:-host,uml}; many_pods_at_once… made ${WISP_TESTS_PODS:-200}; NODES and WISP_TESTS_PODS change that; what examples are built to is kept in $WISP_BED/examples while their files stay the same)" ;; esac
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

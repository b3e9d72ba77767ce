#!/usr/bin/env bash
# The suite where it is least at home: other Pythons with their newest NumPy, LC_ALL=C, paths with spaces and letters
# beyond ASCII, an installed wheel without the clone. Needs a registry of packages and ten minutes for each Python.
#
#     tests/everywhere.sh python3.10 python3.13       JOBS=2 test processes; ARGS="-k data" is handed to pytest
#
# For each Python, in a temporary folder that is removed at the end (KEEP=1 keeps it):
#     clone   git clone of the last commit, `pip install -e .[dev]`, the suite
#     wheel   the clone's wheel in an environment of its own; tests/, notebooks/, benchmarks/ and docs/ beside it,
#             scratch/ not: what needs the files of a clone is skipped, and says so
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap '[ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"' EXIT
export LC_ALL=C PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH PYTHONUTF8 VIRTUAL_ENV
summary=""
failed=0

# run_suite LABEL PYTHON, in the present folder
run_suite() {
    local version
    version=$("$2" -c 'import platform, numpy; print(f"Python {platform.python_version()}, NumPy {numpy.__version__}")')
    printf '\n==== %s: %s, in %s\n' "$1" "$version" "$PWD"
    "$2" -m pytest -n "${JOBS:-2}" -q -p no:cacheprovider ${ARGS:-} 2>&1 | tee "$work/log"
    [ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
    summary+="$1, $version: $(tail -n 1 "$work/log")"$'\n'
}

for python in "${@:-python3}"; do
    place="$work/a clone with späces/$(basename "$(dirname "$(dirname "$(command -v "$python")")")") ü"
    mkdir -p "$place"
    cd "$place" || exit 1
    git clone --quiet "$root" clone &&
        "$python" -m venv "env 1" && "env 1/bin/python" -m pip install -q -e './clone[dev]' &&
        "env 1/bin/python" -m pip wheel -q --no-deps -w dist ./clone &&
        "$python" -m venv "env 2" && wheel=(dist/*.whl) && "env 2/bin/python" -m pip install -q "./${wheel[0]}[dev]" ||
        { summary+="$python: could not be set up"$'\n'; failed=1; continue; }
    cd "$place/clone" || exit 1
    run_suite clone "../env 1/bin/python"
    mkdir "$place/beside"
    cp -r tests notebooks benchmarks docs pyproject.toml "$place/beside"
    cd "$place/beside" || exit 1
    run_suite wheel "../env 2/bin/python"
done

printf '\n==== everywhere\n%s' "$summary"
exit "$failed"

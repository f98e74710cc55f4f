#!/usr/bin/env bash
# pytest-xdist no longer keeps the tests of a group together, and says nothing
#
# Seen with pytest-xdist 3.8.0 and pytest 9.2.0, which its requirements allow; with pytest 9.1.1 groups work.
# One would guess: with `--dist loadgroup`, tests marked `xdist_group("stack")` run in one worker, one after another.
# What happens: they run in both workers, side by side, with neither an error nor a warning. pytest 9.2 does not read a
# test's id from the attribute to which the plugin appends the group's name. Tests that share a database or a port
# then disturb each other only now and then. Known as pytest-dev/pytest-xdist#1386.
#
# Output:
#   pytest 9.2.0: 20 passed, in 2 workers
#   pytest 9.1.1: 20 passed, in 1 worker

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq pytest==9.2.0 pytest-xdist==3.8.0 || exit 2

cat >test_group.py <<'EOF'
import os

import pytest


@pytest.mark.xdist_group("stack")
@pytest.mark.parametrize("number", range(20))
def test_shares_the_stack(number):
    with open("workers.txt", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
EOF
workers() {
    rm -f workers.txt
    env -i HOME="$work" venv/bin/python -m pytest -q -W error -n 2 --dist loadgroup test_group.py >out.txt || exit 1
    grep -q '20 passed' out.txt || exit 1
    sort -u workers.txt | wc -l | tr -d ' '
}
now=$(workers)
venv/bin/python -m pip install -qq pytest==9.1.1 || exit 2
before=$(workers)
echo "pytest 9.2.0: 20 passed, in $now workers"
echo "pytest 9.1.1: 20 passed, in $before worker"
[ "$now" = 2 ] && [ "$before" = 1 ]

"""`devin-ops`, or `python -m devin_ops`: the operator's command, from any directory.

`infra/setup` puts this directory on the path of .venv, and `devin-ops` beside its python.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    if not sys.flags.safe_path:
        # The directory that the shell happens to be in, which may hold anybody's `settings.py`.
        del sys.path[0]
    sys.path[:0] = [str(ROOT), str(ROOT / "functions")]
    from infra.ops.app import main as run  # noqa: PLC0415 - found only now

    return run(sys.argv[1:], name="devin-ops")


if __name__ == "__main__":
    sys.exit(main())

"""`devin-ops`, or `python -m devin_ops`: the operator's command, from any directory.

`infra/setup` puts this directory on the path of .venv, and `devin-ops` beside its python. A wheel holds this module and
the project's `infra/ops` and `functions` in a directory beside it.
"""

import signal
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PACKAGED = _HERE / "devin_ops_project"
ROOT = _PACKAGED if _PACKAGED.is_dir() else _HERE.parents[2]
INTERRUPTED = 130


def main() -> int:
    try:
        # The script ignores Ctrl-C until here, where it can end without a traceback.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not sys.flags.safe_path:
            # The directory that the shell happens to be in, which may hold anybody's `settings.py`.
            del sys.path[0]
        sys.path[:0] = [str(ROOT), str(ROOT / "functions")]
        from infra.ops.app import main as run  # noqa: PLC0415 - found only now

        return run(sys.argv[1:], name="devin-ops")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

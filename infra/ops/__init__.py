"""The operator's command: `devin-ops` (see `installed`), or `python -m infra.ops`.

It reads ids, policies and dead letters with the functions' own code, so that both understand the same.
"""

import sys
from pathlib import Path

_FUNCTIONS = str(Path(__file__).resolve().parents[2] / "functions")
if _FUNCTIONS not in sys.path:
    sys.path.append(_FUNCTIONS)

"""The operator's command: `devin-ops` (see `installed`), or `python -m infra.ops`.

It reads ids, policies and dead letters with the functions' own code, so that both understand the same.
"""

import sys

from infra.environments import ROOT

_FUNCTIONS = str(ROOT / "functions")
if _FUNCTIONS not in sys.path:
    sys.path.append(_FUNCTIONS)

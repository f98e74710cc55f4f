"""A fake of the Devin API: it keeps sessions' state, records every call, and fails on request.

For tests and the stack on this machine `FakeDevin`; by itself `python -m infra.local.fake_devin`.
"""

from infra.local.fake_devin.faults import Fault, Rule
from infra.local.fake_devin.server import Call, FakeDevin, fingerprint
from infra.local.fake_devin.sessions import Session

__all__ = ["Call", "FakeDevin", "Fault", "Rule", "Session", "fingerprint"]

"""A stand-in of the Devin API: it keeps sessions' state, records every call, and fails on request.

For tests in the same process `FakeDevin`; for other processes `python -m infra.local.fake_devin` and
`FakeDevinAdmin`. Both classes have the same methods.
"""

from infra.local.fake_devin.calls import Call, fingerprint
from infra.local.fake_devin.faults import Fault, Rule
from infra.local.fake_devin.remote import FakeDevinAdmin
from infra.local.fake_devin.server import FakeDevin
from infra.local.fake_devin.sessions import Session

__all__ = ["Call", "FakeDevin", "FakeDevinAdmin", "Fault", "Rule", "Session", "fingerprint"]

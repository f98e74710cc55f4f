"""A stand-in of the Devin API: it keeps sessions' state, records every call, and fails on request.

For tests in the same process `StandIn`, for other processes `python -m infra.local.standin` and `StandInAdmin`; both
classes have the same methods.
"""

from infra.local.standin.calls import Call, fingerprint
from infra.local.standin.faults import Fault, Rule
from infra.local.standin.remote import StandInAdmin
from infra.local.standin.server import StandIn
from infra.local.standin.sessions import Session

__all__ = ["Call", "Fault", "Rule", "Session", "StandIn", "StandInAdmin", "fingerprint"]

"""A fake of the Devin API: it keeps sessions' state, records every call, and fails on request."""

from infra.local.fake_devin.faults import Fault, Rule
from infra.local.fake_devin.server import Call, FakeDevin

__all__ = ["Call", "FakeDevin", "Fault", "Rule"]

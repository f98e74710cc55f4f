"""What is done to the stack while it works, and undone afterwards however the run ends."""

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infra.local.stack import API_KEY
from tests.chaos.plan import Plan
from tests.integration.world import World

# The statement of the role's policy, and the action in it.
_PERMISSIONS = {
    "dead letters": ("DeadLetters", "sqs:SendMessage"),
    "secret": ("ApiKey", "secretsmanager:GetSecretValue"),
}


class Disturbances:
    """Does what goes wrong; `counts` says what was done how often."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._draw = random.Random(plan.seed)  # noqa: S311 - not a secret
        self._outage = ExitStack()
        self.counts: Counter[str] = Counter()

    @contextmanager
    def faults(self) -> Iterator[None]:
        """The API with the plan's faults; whatever else was disturbed is mended with them when the block is left."""
        stack = self._world.stack
        with ExitStack() as mends:
            mends.callback(stack.put_api_key, API_KEY)
            mends.callback(stack.api.set_keys, [API_KEY])
            mends.callback(stack.api.set_latency, 0)
            mends.callback(stack.api.clear_faults)
            mends.enter_context(self._outage)
            for fault, when in self._plan.rules:
                stack.api.script(fault, **when)
            yield

    def latency(self, low: float, high: float) -> None:
        """From now on every call takes so many seconds."""
        self._world.stack.api.set_latency(low, high)

    def accept(self, *numbers: int) -> None:
        """From now on the API accepts the keys with these numbers alone."""
        keys = [self._key(number) for number in numbers]
        self._world.keys.update(keys)
        self._world.stack.api.set_keys(keys)
        self.counts["old key refused"] += len(keys) == 1

    def store(self, number: int) -> None:
        """Store the key with this number in the secret."""
        self._world.stack.put_api_key(self._key(number))
        self.counts["new key stored"] += 1

    def deny(self, resource: str) -> None:
        """Take a permission from the function's role."""
        self._outage.enter_context(self._world.without(*_PERMISSIONS[resource]))
        self.counts[f"{resource} unavailable"] += 1

    def permit(self) -> None:
        """Give it back."""
        self._outage.close()

    def _key(self, number: int) -> str:
        """Made up, and worth nothing elsewhere."""
        return f"apk_user_chaos-{self._plan.seed}-{number}-0123456789abcdef" if number else API_KEY

    def kill(self, share: float) -> None:
        """End this share of the function's processes by SIGKILL."""
        # Those that have begun to work. One that dies sooner makes the emulator end all others, again and again.
        working = [process for process in self._world._workers() if _threads(process) > 1]
        doomed = [process for process in working if self._draw.random() < share] or working[:1]
        for process in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
                self.counts["processes killed"] += 1


def _threads(process: int) -> int:
    """How many threads it has; none if it has ended. The function starts some with its first invocation."""
    try:
        return len(list(Path(f"/proc/{process}/task").iterdir()))
    except FileNotFoundError:
        return 0

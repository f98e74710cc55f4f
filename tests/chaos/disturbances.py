"""What is done to the stack while it works, and undone afterwards however the run ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infra.local.fake_devin import Rule
from infra.local.stack import API_KEY
from tests.chaos.plan import Accept, Disturbance, Kill, Latency, Permit, Resource, Store
from tests.integration.world import World

# The statement of the role's policy, and the action in it.
_PERMISSIONS: dict[Resource, tuple[str, str]] = {
    "dead letters": ("DeadLetters", "sqs:SendMessage"),
    "secret": ("ApiKey", "secretsmanager:GetSecretValue"),
}


class Disturbances:
    """Does what goes wrong; `counts` says what was done how often."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._outages: dict[Resource, ExitStack] = {}
        self.counts: Counter[str] = Counter()

    @contextmanager
    def faults(self, rules: Sequence[Rule]) -> Iterator[None]:
        """The API with these faults; whatever else was disturbed is mended with them when the block is left."""
        with ExitStack() as mends:
            api = self._world.stack.api
            mends.callback(self._world.stack.put_api_key, API_KEY)
            mends.callback(api.set_keys, [API_KEY])
            mends.callback(api.set_latency, 0)
            mends.callback(api.clear_faults)
            mends.callback(self._permit_all)
            for rule in rules:
                api.script(
                    rule.fault,
                    session_id=rule.session_id,
                    operation=rule.operation,
                    probability=rule.probability,
                    seed=rule.seed,
                )
            yield

    def disturb(self, what: Disturbance) -> None:
        """Do it now."""
        stack = self._world.stack
        match what:
            case Kill():
                self._kill(what)
            case Latency(low, high):
                stack.api.set_latency(low, high)
            case Accept(numbers):
                keys = [self._key(number) for number in numbers]
                self._world.keys.update(keys)
                stack.api.set_keys(keys)
                self.counts["old key refused"] += len(keys) == 1
            case Store(number):
                stack.put_api_key(self._key(number))
                self.counts["new key stored"] += 1
            case Permit(resource, granted=True):
                self._outages.pop(resource).close()
            case Permit(resource):
                outage = self._outages[resource] = ExitStack()
                outage.enter_context(self._world.without(*_PERMISSIONS[resource]))
                self.counts[f"{resource} unavailable"] += 1

    def _permit_all(self) -> None:
        while self._outages:
            _, outage = self._outages.popitem()
            outage.close()

    def _key(self, number: int) -> str:
        """Made up, and worth nothing elsewhere."""
        return f"apk_user_chaos-{self._seed}-{number}-0123456789abcdef" if number else API_KEY

    def _kill(self, kill: Kill) -> None:
        draw = random.Random(kill.seed)  # noqa: S311 - not a secret
        # Those that have begun to work. One that dies sooner makes the emulator end all others, again and again.
        working = [process for process in sorted(self._world._workers()) if _threads(process) > 1]
        doomed = [process for process in working if draw.random() < kill.share] or working[:1]
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

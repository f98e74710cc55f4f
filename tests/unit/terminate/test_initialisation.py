"""What a function has made before its first invocation, while Lambda still gives it a whole CPU."""

import subprocess
import sys

import pytest

from infra.environments import ROOT

SETTINGS = {
    "PYTHONPATH": str(ROOT / "functions"),
    "API_KEY_SECRET_ARN": "key",
    "WORK_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/work",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/dead-letters",
    "AWS_DEFAULT_REGION": "eu-west-1",
    # Without them boto3 would ask the network.
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


def runtimes(handler: str, settings: dict[str, str]) -> int:
    """How many runtimes there are in a process that has just imported the handler."""
    script = f"import {handler}, runtime; print(runtime.runtime_for.cache_info().currsize)"
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return int(said.stdout)


@pytest.mark.parametrize("handler", ["terminate.handler", "sweep.handler"])
def test_clients_are_made_before_the_first_invocation_unless_a_setting_is_unusable(handler: str) -> None:
    assert runtimes(handler, SETTINGS) == 1
    assert runtimes(handler, SETTINGS | {"DRY_RUN": "perhaps"}) == 0, "the invocation reports it"

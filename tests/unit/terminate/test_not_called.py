"""Every reason for which the API is not called, or calls nothing for, has a metric, and so an alarm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.world import World, answer


def no_key(world: World) -> None:
    world.secrets.put_secret_value(SecretId=world.secret, SecretString='{"api_key": ""}')


def malformed(world: World) -> None:
    world.secrets.put_secret_value(SecretId=world.secret, SecretString='["apk_user_0123456789"]')


def denied(world: World) -> None:
    world.aws.fail("secretsmanager.GetSecretValue")


def unreadable(world: World) -> None:
    world.aws.fail("secretsmanager.GetSecretValue", "InternalServiceError")


def throttled(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(429))


def no_time(world: World) -> None:
    world.context.remaining_milliseconds = 1000


def refused(world: World) -> None:
    world.api.good_keys = set()


@pytest.mark.fault(41)
@pytest.mark.parametrize(
    ("reason", "metrics"),
    [
        *(
            (reason, {"retry": 1, "not_called": 1})
            for reason in (no_key, malformed, denied, unreadable, throttled, no_time)
        ),
        (refused, {"unauthorized": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_reason_for_which_nothing_is_called_is_counted(
    world: World,
    counted: Callable[[], dict[str, float]],
    reason: Callable[[World], None],
    metrics: dict[str, float],
) -> None:
    reason(world)
    world.send("devin-1")
    assert len(world.deliver()) == 1
    assert counted() == metrics

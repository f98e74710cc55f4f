"""One stack for all of these tests: built, deployed by SAM CLI, and ended when they are over, however they end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.local.certificate import Certificate
from infra.local.fake_devin import Fault
from infra.local.fake_devin.faults import html_error
from infra.local.fake_devin.sessions import ORG_ID
from infra.local.stack import API_KEY, Account, Stack, local_account
from tests.integration.faulty_aws import FaultyAws
from tests.integration.world import World, wait_for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests, and put last those that wait long or change what all share.

    Those that wait began their waiting before the first test; those that change something first let the others'
    messages end; those that spoil AWS's answers share one way to it. Any order works, this one takes least time.
    """
    mine = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in mine:
        item.add_marker(pytest.mark.integration)
    items.sort(key=lambda item: _rank(item) if item in mine else 0)


def _rank(item: pytest.Item) -> int:
    fixtures = getattr(item, "fixturenames", ())
    if "aws" in fixtures:
        return 3
    return 2 if "quiet" in fixtures else 1 if "underway" in fixtures else 0


# A topic that may send to the work queue.
PRODUCER = "arn:aws:sns:us-east-1:000000000000:producer"


@dataclass(frozen=True)
class Underway:
    """Ids whose end takes long: five attempts, a call that has to be given up, the emulator's look at schedules."""

    poison: str
    poison_body: str
    hang: str
    drip: str
    endless: str
    scheduled: str
    schedule_name: str


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    """For tests that deploy a stack of their own."""
    with local_account() as account:
        yield account


@pytest.fixture(scope="session")
def stack(account: Account) -> Stack:
    # The first two matter to keys of version 3 alone.
    deployed = account.deploy(parameters={"DevinOrgId": ORG_ID, "Archive": "true", "ProducerArns": PRODUCER})
    deployed.put_api_key(API_KEY)
    return deployed


@pytest.fixture(scope="session")
def _begun(stack: Stack) -> tuple[World, Underway]:
    world = World(stack)
    poison = world.session("poison")
    stack.api.script(html_error(500), session_id=poison, operation="terminate", times=5)  # as the queue's most receives
    poison_body = f' {{"session_ids" : ["{poison}"], "unless_updated_since": "{datetime.now(UTC).isoformat()}"}}\n'
    scheduled, schedule_name = world.session("scheduled"), "end-a-session-once"
    stack.aws.scheduler.create_schedule(
        Name=schedule_name,
        ScheduleExpression=f"at({datetime.now(UTC):%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        ActionAfterCompletion="DELETE",
        Target={
            "Arn": stack.outputs["WorkQueueArn"],
            "RoleArn": stack.outputs["OneTimeScheduleRoleArn"],
            "Input": f'{{"session_id": "{scheduled}"}}',
            "DeadLetterConfig": {"Arn": stack.outputs["DeadLetterQueueArn"]},
        },
    )
    world.send(poison_body)
    # In a batch of its own, so that it does not wait with those that wait for the API.
    world.wait_for_attempt(poison)
    hang = world.session("hang", Fault(kind="hang"))
    drip = world.session("drip", Fault(kind="drip", part="head"))
    endless = world.session("endless", Fault(kind="endless"))
    slow = (hang, drip, endless)
    world.send(f'{{"session_ids": ["{hang}", "{drip}", "{endless}"]}}')
    wait_for(lambda: all(world.calls(one) for one in slow), "calls that last")
    return world, Underway(poison, poison_body, hang, drip, endless, scheduled, schedule_name)


@pytest.fixture(scope="session")
def world(_begun: tuple[World, Underway]) -> World:
    return _begun[0]


@pytest.fixture(scope="session")
def underway(_begun: tuple[World, Underway]) -> Underway:
    """What was sent before the first test."""
    return _begun[1]


@pytest.fixture(scope="session")
def aws(world: World) -> Iterator[FaultyAws]:
    """AWS as the functions see it from now on: by way of a proxy that passes everything on unless told otherwise."""
    certificate = Certificate.kept_in(world.stack.directory)
    world.wait_until_drained()
    with (
        FaultyAws(world.stack.aws.endpoint_url, certificate) as aws,
        world.environment(**aws.variables("SQS", "SECRETS_MANAGER", "SSM", "EVENTBRIDGE"), PUBLISH_OUTCOMES="true"),
        world.environment(world.stack.sweep_function_name, **aws.variables("SQS")),
    ):
        yield aws


@pytest.fixture
def quiet(world: World) -> World:
    """The stack to oneself: nothing of the other tests is under way."""
    world.wait_until_drained()
    return world

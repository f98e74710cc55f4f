"""A key that the API refuses, and a secret that may or may not hold another by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sweep.sweep import SweepError
from tests.unit.world import KEY, NO_ACCESS, V3_KEY, World, answer

Log = Callable[[], list[dict[str, Any]]]
Counted = Callable[[], dict[str, float]]

UNREADABLE = ["AccessDeniedException", "ThrottlingException", "ResourceNotFoundException", "InternalServiceError"]


def refused(world: World, *, code: str) -> None:
    """From now on the key that is in use is bad, and the secret cannot be read any more."""
    world.api.good_keys = set()
    world.aws.fail("secretsmanager.GetSecretValue", code)


def in_use(world: World) -> None:
    """Have the key cached by a call that goes well."""
    world.send("devin-0")
    assert world.deliver() == []
    world.api.calls.clear()
    world.aws.calls.clear()


def test_a_refused_key_is_counted_for_every_id_it_kept(world: World, counted: Counted) -> None:
    world.api.good_keys = set()
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 3
    assert counted() == {"unauthorized": 3}


def test_a_refused_key_of_an_event_is_counted_too(world: World, counted: Counted) -> None:
    world.api.good_keys = set()
    assert world.invoke({"session_ids": ["devin-1", "devin-2"]}) == {"unauthorized": ["devin-1", "devin-2"]}
    assert counted() == {"unauthorized": 2}
    assert world.queued() == (0, 0, 2)


def test_the_next_invocation_tries_again(world: World) -> None:
    world.api.good_keys = set()
    world.send("devin-1")
    event = world.batch()
    assert len(world.invoke(event)["batchItemFailures"]) == 1
    world.api.good_keys = {KEY}
    assert world.invoke(event)["batchItemFailures"] == []


@pytest.mark.parametrize("code", UNREADABLE)
def test_a_refused_key_and_a_secret_that_cannot_be_read_are_both_told(world: World, log: Log, code: str) -> None:
    in_use(world)
    log()
    refused(world, code=code)
    world.send("devin-1", "devin-2")

    assert len(world.deliver()) == 2

    lines = log()
    assert [line["outcome"] for line in lines] == ["unauthorized"] * 2
    for line in lines:
        assert line["detail"].startswith("the API refuses the key")
        assert code in line["detail"]
        assert "secretsmanager:GetSecretValue" in line["detail"]
        assert "store a valid one" not in line["detail"], "that may have been done already"
    assert len(world.api.calls) == 1
    assert world.aws.names().count("secretsmanager.GetSecretValue") == 1
    assert world.queued() == (0, 2, 0)


def test_a_refused_key_and_a_new_one_that_will_not_do_are_both_told(world: World, log: Log) -> None:
    in_use(world)
    log()
    world.api.good_keys = set()
    world.secrets.put_secret_value(SecretId=world.secret, SecretString="apk_new\n")
    world.send("devin-1")
    world.deliver()
    (line,) = log()
    assert line["outcome"] == "unauthorized"
    assert "the API refuses the key" in line["detail"]
    assert "store the bare key" in line["detail"]
    assert "apk_new" not in line["detail"]


def test_once_the_secret_can_be_read_again_the_new_key_is_used(world: World) -> None:
    in_use(world)
    refused(world, code="ThrottlingException")
    world.send("devin-1")
    event = world.batch()
    assert len(world.invoke(event)["batchItemFailures"]) == 1
    world.aws.faults.clear()
    world.secrets.put_secret_value(SecretId=world.secret, SecretString="apk_new")
    world.api.good_keys = {"apk_new"}

    assert world.invoke(event)["batchItemFailures"] == []
    assert world.api.keys[-2:] == [KEY, "apk_new"]


def test_403_stays_one_ids_problem_while_the_secret_cannot_be_read(world: World, log: Log) -> None:
    in_use(world)
    log()
    world.aws.fail("secretsmanager.GetSecretValue", "ThrottlingException")
    world.api.on("DELETE", "devin-1", answer(403, {"detail": "Forbidden"}))
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 1
    assert sorted(line["outcome"] for line in log()) == ["forbidden", "terminated", "terminated"]
    assert world.aws.names().count("secretsmanager.GetSecretValue") == 1


def test_a_bad_key_of_v3_and_a_secret_that_cannot_be_read_are_both_told(v3: World, log: Log) -> None:
    in_use(v3)
    log()
    refused(v3, code="AccessDeniedException")
    v3.send("devin-1", "devin-2")
    assert len(v3.deliver()) == 2
    lines = log()
    assert [line["outcome"] for line in lines] == ["unauthorized"] * 2
    assert all("the API refuses the key" in line["detail"] for line in lines)
    assert all("AccessDeniedException" in line["detail"] for line in lines)
    assert set(v3.api.keys) == {V3_KEY}


def test_a_sweep_tells_both_too(world: World) -> None:
    in_use(world)
    refused(world, code="AccessDeniedException")
    with pytest.raises(SweepError) as caught:
        world.sweep(idle_for="P1D")
    assert "the API answered 401: the API refuses the key (Unauthorized)" in str(caught.value)
    assert "AccessDeniedException" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda world: setattr(world.api, "good_keys", set()), id="refused"),
        pytest.param(
            lambda world: world.aws.fail("secretsmanager.GetSecretValue", "AccessDeniedException"), id="unread"
        ),
        pytest.param(lambda world: setattr(world.context, "remaining_milliseconds", 2_000), id="no time"),
    ],
)
def test_nobody_is_worn_out_by_a_key_that_does_not_work(world: World, spoil: Callable[[World], None]) -> None:
    """Received for the fourth of five times; the next one but one would be the redrive policy's."""
    spoil(world)
    world.send("devin-1", "devin-2")
    event = world.batch()
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = "4"
    assert world.invoke(event) == {"batchItemFailures": []}
    sent = [given for name, given in world.aws.calls if name == "sqs.SendMessage"][2:]
    assert sorted(given["MessageBody"] for given in sent) == ["devin-1", "devin-2"]
    assert {given["MessageAttributes"]["attempts"]["StringValue"] for given in sent} == {"4"}


def test_a_session_that_is_forbidden_is_worn_out_also_where_it_looks_like_a_bad_key(v3: World) -> None:
    v3.api.on("DELETE", "devin-1", NO_ACCESS)
    v3.send("devin-1")
    event = v3.batch()
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = "4"
    assert len(v3.invoke(event)["batchItemFailures"]) == 1

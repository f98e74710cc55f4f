"""`"action": "archive"`: the session sleeps and can be brought back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.world import World, answer, problem, stale_v3

Log = Callable[[], list[dict[str, Any]]]
BODY = json.dumps({"session_id": "devin-1", "action": "archive"})


def posted(world: World) -> list[str]:
    return [url for (method, _), url in zip(world.api.calls, world.api.urls, strict=True) if method == "POST"]


def test_a_session_is_archived_and_not_ended(v3: World, log: Log) -> None:
    v3.api.on("POST", "devin-1", answer(200, stale_v3("1", is_archived=True)))
    v3.send(BODY)
    assert v3.deliver() == []
    assert posted(v3) == ["/v3/organizations/org-abc123def456/sessions/devin-1/archive"]
    assert v3.api.deleted() == []
    assert [line["outcome"] for line in log()] == ["archived"]


@pytest.mark.parametrize(
    ("shown", "outcome"),
    [
        ({"status": "exit"}, "already_exited"),
        ({"is_archived": True}, "archived"),
        ({"status": "running"}, "rejected"),
    ],
)
def test_a_rejection_is_looked_into(v3: World, log: Log, shown: dict[str, Any], outcome: str) -> None:
    v3.api.on("POST", "devin-1", problem(400, "Bad Request", "no"))
    v3.api.have(stale_v3("devin-1", **shown))
    v3.send(BODY)
    assert v3.deliver() == []
    assert [line["outcome"] for line in log()] == [outcome]
    assert len(v3.dead_letters()) == (outcome == "rejected")


def test_a_key_of_version_1_cannot_archive(world: World) -> None:
    world.send(BODY)
    assert world.deliver() == []
    ((body, attributes),) = world.dead_letters()
    assert (body, attributes["reason"]) == (BODY, "invalid_message")
    assert "cog_" in attributes["detail"]
    assert world.api.calls == []


def test_a_condition_and_a_dry_run_hold_for_archiving_too(v3: World, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    v3.api.have(stale_v3("devin-1"))
    v3.send(json.dumps({"session_id": "devin-1", "action": "archive", "unless_updated_since": "2026-11-01T00:00:00Z"}))
    v3.deliver()
    monkeypatch.setenv("DRY_RUN", "true")
    v3.send(BODY)
    v3.deliver()
    assert [line["outcome"] for line in log()] == ["spared", "would_terminate"]
    assert posted(v3) == []


@pytest.mark.parametrize("action", ["delete", "Archive", "", None, 1, ["archive"]])
def test_another_action_is_an_invalid_message(world: World, action: object) -> None:
    world.send(json.dumps({"session_id": "devin-1", "action": action}))
    assert world.deliver() == []
    assert [attributes["reason"] for _, attributes in world.dead_letters()] == ["invalid_message"]
    assert world.api.calls == []


def test_the_ids_of_one_message_are_archived_each(v3: World) -> None:
    v3.api.on("POST", "devin-2", answer(503))
    v3.send(json.dumps({"session_ids": ["devin-1", "devin-2"], "action": "archive"}))
    v3.api.on("POST", "devin-1", answer(200))
    assert v3.deliver() == []
    sent = [given for name, given in v3.aws.calls if name == "sqs.SendMessage"]
    assert json.loads(sent[-1]["MessageBody"]) == {"session_ids": ["devin-2"], "action": "archive"}

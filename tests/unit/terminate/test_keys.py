"""The API key: read once, read again when the API refuses it, never used after that, never shown."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.world import KEY, NO_ACCESS, ORG_ID, V3_KEY, Log, World, answer, page_v3, problem, stale_v3

READ = "secretsmanager.GetSecretValue"
SESSIONS = f"/v3/organizations/{ORG_ID}/sessions"
NEW = {KEY: "apk_new", V3_KEY: "cog_new-0123"}


@pytest.fixture(params=[KEY, V3_KEY], ids=["v1", "v3"])
def key(world: World, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A key of either version, which the function has used already."""
    monkeypatch.setenv("DEVIN_ORG_ID", ORG_ID)
    made: str = request.param
    store(world, made)
    world.send("devin-0")
    assert world.deliver() == []
    for calls in (world.api.calls, world.api.keys, world.aws.calls):
        calls.clear()
    return made


def store(world: World, secret: str) -> None:
    world.secrets.put_secret_value(SecretId=world.secret, SecretString=secret)


def outcomes(log: Log) -> dict[str, str]:
    return {line["session_id"]: line["outcome"] for line in log() if line.get("session_id") != "devin-0"}


@pytest.mark.fault(8)
def test_a_rotated_key_is_read_and_the_call_repeated(world: World, key: str, log: Log) -> None:
    world.api.good_keys = {NEW[key]}
    store(world, json.dumps({"service_key": NEW[key]}))
    world.send("devin-1", "devin-2")
    assert world.deliver() == []
    assert world.api.keys == [key, NEW[key], NEW[key]]
    assert set(outcomes(log).values()) == {"terminated"}


@pytest.mark.fault(9)
@pytest.mark.parametrize("new", [False, True])
def test_a_refused_key_is_not_used_again_in_the_invocation(
    world: World, key: str, capsys: pytest.CaptureFixture[str], new: bool
) -> None:
    world.api.good_keys = set()
    if new:
        store(world, NEW[key])
    world.send("devin-1", "devin-2", "devin-3")
    event = world.batch()
    capsys.readouterr()

    assert len(world.invoke(event)["batchItemFailures"]) == 3

    assert list(dict.fromkeys(world.api.keys)) == [key, NEW[key]][: 1 + new]
    assert len(world.api.deleted()) == 1 + new
    assert world.aws.names().count(READ) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [line for line in lines if "outcome" in line]
    assert [line["outcome"] for line in said] == ["unauthorized"] * 3
    assert all("store a valid one" in line["detail"] for line in said)
    assert [line["unauthorized"] for line in lines if "_aws" in line] == [[3]]

    world.api.good_keys = {key, NEW[key]}
    assert world.invoke(event)["batchItemFailures"] == []


@pytest.mark.usefixtures("key")
def test_several_workers_read_a_refused_key_again_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "8")
    world.api.good_keys = set()
    world.send(*(f"devin-{number}" for number in range(10)))
    assert len(world.deliver()) == 10
    # Another number of workers is another runtime, which reads the key first.
    assert world.aws.names().count(READ) == 2
    assert len(world.api.deleted()) <= 8


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda world: world.aws.fail(READ, "ThrottlingException"), "ThrottlingException"),
        (lambda world: world.aws.fail(READ, "AccessDeniedException"), "secretsmanager:GetSecretValue"),
        (lambda world: store(world, "apk_new\n"), "store the bare key"),
    ],
)
def test_a_refused_key_and_an_unusable_secret_are_both_reported(
    world: World, key: str, log: Log, spoil: Callable[[World], None], said: str
) -> None:
    log()
    world.api.good_keys = set()
    spoil(world)
    world.send("devin-1")
    event = world.batch()
    assert len(world.invoke(event)["batchItemFailures"]) == 1
    (line,) = log()
    assert line["outcome"] == "unauthorized"
    assert line["detail"].startswith("the API refuses the key")
    assert said in line["detail"]
    assert "store a valid one" not in line["detail"], "it may be there already"
    assert "apk_new" not in line["detail"]

    world.aws.faults.clear()
    store(world, NEW[key])
    world.api.good_keys = {NEW[key]}
    assert world.invoke(event)["batchItemFailures"] == []


@pytest.mark.fault(10)
@pytest.mark.parametrize("readable", [True, False])
def test_403_affects_the_ids_that_get_one(world: World, key: str, log: Log, readable: bool) -> None:
    if not readable:
        world.aws.fail(READ, "ThrottlingException")
    for session_id in ("devin-1", "devin-3"):
        world.api.on("DELETE", session_id, NO_ACCESS if key == V3_KEY else answer(403, {"detail": "Forbidden"}))
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 2
    assert outcomes(log) == {"devin-1": "forbidden", "devin-2": "terminated", "devin-3": "forbidden"}
    assert world.aws.names().count(READ) == 1


@pytest.mark.parametrize(
    ("listed", "outcome"),
    [(NO_ACCESS, "unauthorized"), (page_v3(), "forbidden"), (answer(503), "forbidden"), (answer(404), "forbidden")],
)
def test_v3_says_403_for_both_so_one_list_call_tells_them_apart(v3: World, log: Log, listed: Any, outcome: str) -> None:
    v3.api.on("DELETE", "devin-1", NO_ACCESS)
    v3.api.on("LIST", "", listed)
    v3.send("devin-1")
    event = v3.batch(receives=4)
    kept = v3.invoke(event)["batchItemFailures"]
    assert outcomes(log) == {"devin-1": outcome}
    assert v3.api.listed() == ["first=1"]
    # A bad key does not use up the receives of a message, a forbidden session does.
    assert (len(kept), len(v3.requeued())) == ((1, 0) if outcome == "forbidden" else (0, 1))


@pytest.mark.parametrize("first", [answer(503), answer(408), answer(302, Location="/")])
def test_an_answer_that_is_not_about_the_key_does_not_show_that_it_works(v3: World, log: Log, first: Any) -> None:
    for number, said in enumerate((first, NO_ACCESS, NO_ACCESS)):
        v3.api.on("DELETE", f"devin-{number}", said)
    v3.api.on("LIST", "", NO_ACCESS)
    v3.send("devin-0", "devin-1", "devin-2")
    v3.deliver()
    found = outcomes(log)
    assert (found["devin-1"], found["devin-2"]) == ("unauthorized", "unauthorized")


@pytest.mark.fault(49)
def test_a_401_of_v3_may_be_the_ip_access_list(v3: World, log: Log) -> None:
    v3.api.on("DELETE", "devin-1", problem(401, "Unauthorized", "Address not allowed"))
    v3.send("devin-1")
    assert len(v3.deliver()) == 1
    (line,) = log()
    assert line["outcome"] == "unauthorized"
    assert "IP access list" in line["detail"]


# The secret --------------------------------------------------------------------------------------------------------


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "secret",
    ["apk_secret\n", "apk_ secret", "apk_sécret", '{"api_key": ""}', '{"api_key": 1}', '{"other": "apk_secret"}',
     '{"api_key": "apk_secret"', '{"api_key": "apk_secret\\r\\nX: y"}', '"apk_secret"', '["apk_secret"]',
     "DEVIN_API_KEY=apk_secret", " apk_secret", "apk_secret ", b"apk_secret"],
)  # fmt: skip
def test_an_unusable_secret_keeps_everything_and_says_what_to_store(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log, secret: str | bytes
) -> None:
    if isinstance(secret, bytes):
        binary = world.secrets.create_secret(Name="binary", SecretBinary=secret)["ARN"]
        monkeypatch.setenv("API_KEY_SECRET_ARN", binary)
    else:
        store(world, secret)
    world.send("devin-1")
    event = world.batch()
    assert len(world.invoke(event)["batchItemFailures"]) == 1
    assert world.api.calls == []
    (line,) = log()
    assert "store the bare key" in line["detail"]
    assert "apk_" not in json.dumps(line)

    if isinstance(secret, str):
        store(world, KEY)
        assert world.invoke(event)["batchItemFailures"] == [], "a mended secret does not wait for the cache"


@pytest.mark.fault(11)
def test_a_secret_that_does_not_exist_keeps_everything_and_says_what_to_check(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setenv("API_KEY_SECRET_ARN", "gone")
    world.send("devin-1", "devin-2")
    assert len(world.deliver()) == 2
    assert all("secretsmanager:GetSecretValue" in line["detail"] for line in log())
    assert world.aws.names().count(READ) == 1, "however many ids ask for the key"


# Versions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "archive", "url"),
    [
        (V3_KEY, "", f"{SESSIONS}/devin-1"),
        (V3_KEY, "false", f"{SESSIONS}/devin-1"),
        (V3_KEY, "true", f"{SESSIONS}/devin-1?archive=true"),
        (json.dumps({"token": V3_KEY}), "", f"{SESSIONS}/devin-1"),
        *((key, "true", "/v1/sessions/devin-1") for key in ("apk_x-012345", "012345-x", "COG_x-012345", "xcog_012345")),
    ],
)
def test_the_beginning_of_the_key_selects_the_version(
    v3: World, monkeypatch: pytest.MonkeyPatch, secret: str, archive: str, url: str
) -> None:
    monkeypatch.setenv("ARCHIVE", archive)
    store(v3, secret)
    v3.send("devin-1")
    assert v3.deliver() == []
    assert v3.api.urls == [url]


def test_v3_without_an_organisation_keeps_everything_and_names_the_variable(
    v3: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setenv("DEVIN_ORG_ID", "")
    v3.send("devin-1", '{"session_id": "devin-2", "unless_updated_since": "2026-11-24T10:00:00Z"}')
    assert len(v3.deliver()) == 2
    assert v3.api.calls == []
    lines = log()
    assert [line["outcome"] for line in lines] == ["retry"] * 2
    assert all("DEVIN_ORG_ID" in line["detail"] for line in lines)


# Errors of v3, and what v3 shows of a session ----------------------------------------------------------------------


@pytest.mark.fault(50)
@pytest.mark.parametrize("status", ["exit", "running", "error", "suspended", "expired"])
def test_only_exit_is_an_end_in_v3(v3: World, log: Log, status: str) -> None:
    v3.api.on("DELETE", "devin-1", problem(409, "Conflict", "The session has exited already."))
    v3.api.have(stale_v3("devin-1", status=status, status_detail="finished"))
    v3.send("devin-1")
    assert v3.deliver() == []
    assert outcomes(log) == {"devin-1": "already_exited" if status == "exit" else "rejected"}
    assert v3.api.urls == [f"{SESSIONS}/devin-1"] * 2
    assert [letter["session_status"] for _, letter in v3.dead_letters()] == ([] if status == "exit" else [status])

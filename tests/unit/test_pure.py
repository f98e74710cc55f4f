"""The pure parts: session ids, messages, delays, settings, redaction, outcomes."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devin.api_key import ApiKeyError, parse_api_key
from devin.client import Answer, error_detail
from devin.session_id import InvalidSessionIdError, parse_session_id
from redaction import Redactor, one_line
from retry import MAX_DELAY_SECONDS, parse_retry_after, retry_delay
from settings import Settings, SettingsError
from terminate.messages import InvalidItem, Request, parse_body, parse_event, rebuild_body
from terminate.outcomes import Disposition, Outcome, Result, classify
from timestamps import parse_timestamp

ON_THE_WIRE = re.compile(r"devin-[A-Za-z0-9_-]{1,122}", re.ASCII)
NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)

session_ids = st.from_regex(ON_THE_WIRE, fullmatch=True)
hostile = st.one_of(
    st.text(),
    st.text(alphabet="devin-/.%0aA1\r\n \x00?#&=:@"),
    st.builds("devin-{}".format, st.text(max_size=20)),
    st.builds("https://app.devin.ai/sessions/{}".format, st.text(max_size=20)),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | hostile,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["session_id", "session_ids", "unless_updated_since", "detail", "requestPayload", "Message"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(session_ids)
def test_an_id_is_itself(session_id: str) -> None:
    assert parse_session_id(session_id) == session_id
    assert parse_session_id(f"https://app.devin.ai/sessions/{session_id}") == session_id


@given(st.from_regex(r"[0-9a-fA-F]{32}", fullmatch=True))
def test_a_bare_id_gets_its_prefix(bare: str) -> None:
    assert parse_session_id(bare) == f"devin-{bare.lower()}"
    assert parse_session_id(f"devin-{bare}") == f"devin-{bare.lower()}"
    assert parse_session_id(f"https://app.devin.ai/sessions/{bare}") == f"devin-{bare.lower()}"


@pytest.mark.fault(30)
@given(hostile)
def test_only_plain_ids_are_read(text: str) -> None:
    try:
        session_id = parse_session_id(text)
    except InvalidSessionIdError:
        return
    assert ON_THE_WIRE.fullmatch(session_id)
    assert session_id.removeprefix("devin-") in text.lower() or session_id in text


def test_an_id_has_128_characters_at_most() -> None:
    assert parse_session_id("devin-" + "a" * 122)
    with pytest.raises(InvalidSessionIdError):
        parse_session_id("devin-" + "a" * 123)


@given(st.one_of(hostile, json_values))
def test_no_body_and_no_event_breaks_the_parser_or_is_dropped(value: object) -> None:
    items = parse_event(value).items
    assert items
    for item in items + parse_body(value if isinstance(value, str) else json.dumps(value)):
        assert isinstance(rebuild_body([item]), str)
        if isinstance(item, Request):
            assert ON_THE_WIRE.fullmatch(item.session_id)


def sns(inner: str) -> str:
    return json.dumps({"Type": "Notification", "Message": inner})


def event_bridge(inner: str) -> str:
    return json.dumps({"detail-type": "any", "source": "s", "detail": json.loads(inner)})


def event_bridge_text(inner: str) -> str:
    return json.dumps({"detail-type": "any", "source": "s", "detail": inner})


def destination(inner: str) -> str:
    return json.dumps({"version": "1.0", "requestPayload": json.loads(inner), "responsePayload": None})


@given(
    st.lists(session_ids, min_size=2, max_size=5, unique=True),
    st.none() | st.datetimes(datetime(2024, 1, 1), datetime(2026, 11, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.lists(st.sampled_from([sns, event_bridge, event_bridge_text, destination]), max_size=4),
)
def test_each_id_gets_a_body_of_its_own_that_asks_for_it_alone(
    ids: list[str], since: datetime | None, envelopes: list[object]
) -> None:
    payload: dict[str, object] = {"session_ids": ids}
    if since is not None:
        payload["unless_updated_since"] = since.isoformat()
    body = json.dumps(payload)
    for envelope in envelopes:
        body = envelope(body)  # type: ignore[operator]

    items = parse_body(body)

    assert [item.session_id for item in items if isinstance(item, Request)] == ids
    assert [item.raw for item in parse_body(rebuild_body(items))] == [item.raw for item in items]
    for item in items:
        (alone,) = parse_body(rebuild_body([item]))
        assert isinstance(item, Request)
        assert isinstance(alone, Request)
        assert (alone.session_id, alone.unless_updated_since) == (item.session_id, since)


@given(st.dictionaries(st.text(), st.integers(), min_size=1))
def test_an_unknown_key_beside_an_id_makes_the_message_invalid(extra: dict[str, int]) -> None:
    payload = {**extra, "session_id": "devin-1"}
    if payload.keys() - {"session_id", "session_ids", "unless_updated_since", "detail", "requestPayload", "Message"}:
        (item,) = parse_body(json.dumps(payload))
        assert isinstance(item, InvalidItem)


@given(st.none() | st.text())
def test_any_retry_after_is_bounded(value: str | None) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_DELAY_SECONDS


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("", None), ("-5", None), ("1.5", None), ("٣", None), ("0", 0), (" 17 ", 17), ("9" * 23, 900),
     ("Tue, 24 Nov 2026 10:00:30 GMT", 30), ("Sun, 25 Oct 2026 10:00:00 GMT", 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 900), ("Fri, 31 Dec 99999 23:59:59 GMT", None)],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.integers(), st.integers(1, 300), st.none() | st.floats(0, 900), st.floats(0, 1))
def test_a_delay_is_bounded_and_never_shorter_than_what_the_api_asks(
    attempts: int, base: int, retry_after: float | None, chance: float
) -> None:
    delay = retry_delay(attempts, base, retry_after, lambda low, high: low + (high - low) * chance)
    assert 1 <= delay <= MAX_DELAY_SECONDS
    assert delay >= (retry_after or 0)


def test_the_backoff_doubles() -> None:
    longest = [retry_delay(attempts, 15, None, lambda _, high: high) for attempts in range(1, 9)]
    assert longest == [15, 30, 60, 120, 240, 480, 900, 900]


def test_only_a_confirmed_answer_ends_a_session_and_only_a_3xx_or_4xx_is_final() -> None:
    for status in range(100, 1000):
        outcome, _ = classify(Answer(status))
        assert outcome is not Outcome.TERMINATED
        assert status in range(300, 500) or Result(outcome).disposition is not Disposition.DEAD_LETTER
    assert classify(Answer(200, confirmed=True))[0] is Outcome.TERMINATED


def test_each_outcome_has_a_disposition() -> None:
    assert {outcome: Result(outcome).disposition.name for outcome in Outcome} == {
        Outcome.TERMINATED: "DONE",
        Outcome.ARCHIVED: "DONE",
        Outcome.SPARED: "DONE",
        Outcome.WOULD_TERMINATE: "DONE",
        Outcome.ALREADY_EXITED: "DONE",
        Outcome.REJECTED: "DEAD_LETTER",
        Outcome.INVALID: "DEAD_LETTER",
        Outcome.UNAUTHORIZED: "RETRY",
        Outcome.FORBIDDEN: "RETRY",
        Outcome.RETRY: "RETRY",
    }


ENVIRONMENT = {"API_KEY_SECRET_ARN": "arn", "WORK_QUEUE_URL": "w", "DEAD_LETTER_QUEUE_URL": "d"}


def test_settings_have_defaults() -> None:
    settings = Settings.from_environment(ENVIRONMENT)
    assert (settings.devin_api_url, settings.dry_run, settings.max_workers) == ("https://api.devin.ai", False, 10)


@pytest.mark.parametrize(
    "url",
    ["https://api.devin.ai", "https://proxy.example:8443/devin/", "http://127.0.0.1:80", "http://localhost", "http://[::1]:1"],
)  # fmt: skip
def test_a_safe_api_url_is_taken(url: str) -> None:
    assert Settings.from_environment(ENVIRONMENT | {"DEVIN_API_URL": url}).devin_api_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY_SECRET_ARN", ""),
        ("WORK_QUEUE_URL", ""),
        ("DEAD_LETTER_QUEUE_URL", ""),
        ("DRY_RUN", "maybe"),
        ("ARCHIVE", "yes"),
        ("MAX_WORKERS", "0"),
        ("MAX_WORKERS", "65"),
        ("MAX_WORKERS", "many"),
        ("RETRY_BASE_SECONDS", "-1"),
        ("DEVIN_ORG_ID", "org/../x"),
        *(
            ("DEVIN_API_URL", url)
            for url in (
                "http://api.devin.ai",
                "http://127.0.0.1.evil.example",
                "http://localhost@evil.example",
                "https://user:secret@api.devin.ai",
                "https://api.devin.ai?x=1",
                "https://api.devin.ai#x",
                "https://\\",
                "http://evil.example[::1]",
                "https://api.devin.ai:port",
                "ftp://api.devin.ai",
                "https://api.devin.ai\r\nx",
                "https://api.devin.ai/v1",
                "https://api.devin.ai/v3/",
                "https://api.devin.ai/v10",
            )
        ),
    ],
)
def test_an_unusable_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment(ENVIRONMENT | {name: value})


@pytest.mark.parametrize(
    "secret", ["apk_1", '{"api_key": "apk_1"}', '{"service_key": "apk_1"}', ' {"token": "apk_1"}\n']
)
def test_a_key_is_found_in_each_form_of_the_secret(secret: str) -> None:
    assert parse_api_key(secret) == "apk_1"


@given(st.text(min_size=4))
def test_a_key_is_printable_ascii_or_refused_without_being_repeated(secret: str) -> None:
    try:
        key = parse_api_key(secret)
    except ApiKeyError as error:
        assert secret not in str(error)  # noqa: PT017 - either way is right
    else:
        assert re.fullmatch(r"[!-~]+", key)


@pytest.mark.fault(31)
@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=6), st.text(), st.text())
def test_a_known_key_is_masked(key: str, before: str, after: str) -> None:
    redact = Redactor()
    redact.remember(key)
    assert key.lower() not in redact(before + key + after).replace("[redacted]", "\x00").lower()
    assert json.dumps(key)[1:-1] not in redact(json.dumps({"text": key})).replace("[redacted]", "\x00")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("_YZ8Y_", "_YZ\\u0038\\u0059\\u005F"),
        ("apk_user_a/b", "apk_user_a\\/b"),
        ("apk_user_!a*b+c", "apk_user_!a*b%2Bc"),
        ("apk_user_a/b", "%61%70%6b%5f%75%73%65%72%5f%61%2f%62"),
        ("apk_user_ab", "APK_USER_AB"),
    ],
)
def test_a_known_key_is_masked_if_it_is_escaped(key: str, shown: str) -> None:
    redact = Redactor()
    redact.remember(key)
    assert shown not in redact(f"before {shown} after")


@pytest.mark.parametrize("text", ["apk_user_abc123", "cog_abc.def", "Bearer abc.def-ghi=", "bearer  abc"])
def test_what_looks_like_a_key_is_masked(text: str) -> None:
    assert Redactor()(f"x {text} y") == "x [redacted] y"


@pytest.mark.parametrize("before", ["\n", "\t", "\r", "\b", "\f", "\x00", "é", '"', "\\"])
@pytest.mark.parametrize("escaped", [json.dumps, quote, repr])
def test_what_looks_like_a_key_is_masked_behind_an_escape(before: str, escaped: Callable[[str], str]) -> None:
    """Of a log line in JSON, the letter before the key may be that of a line break."""
    assert "abc123" not in Redactor()(escaped(f"{before}apk_user_abc123"))


@given(st.text(), st.integers(1, 50))
def test_one_line_is_one_short_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable() or all(not (ord(char) < 32 or 0x7F <= ord(char) < 0xA0) for char in line)
    line.encode()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", None),
        (b"{}", "{}"),
        (b'{"detail": "Unauthorized"}', "Unauthorized"),
        (b'{"detail": [{"loc": ["path", "id"], "msg": "bad", "type": "t"}, "worse"]}', "path.id: bad; worse"),
        (b'{"type": "about:blank", "title": "Conflict", "status": 409, "detail": "exited"}', "Conflict: exited"),
        (b'{"title": "Conflict"}', "Conflict"),
        (b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_explanation_of_an_error_is_found(body: bytes, detail: str | None) -> None:
    assert error_detail(body) == detail


@pytest.mark.fault(28)
def test_instants_are_utc() -> None:
    assert parse_timestamp("2026-11-02T12:00:00+02:00") == datetime(2026, 11, 2, 10, tzinfo=UTC)
    assert parse_timestamp("2026-11-02T12:00:00") == datetime(2026, 11, 2, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="outside"):
        parse_timestamp("9999-12-31T23:59:59-01:00")

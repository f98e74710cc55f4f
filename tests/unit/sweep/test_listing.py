"""Listings: pages that shift, repeat, are empty, never end or lie, and an API that fails on the way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from devin.api_key import ApiKeyError
from devin.session import Page, Session
from sweep.listing import MOST_PAGES, Listing
from sweep.selection import CapExceededError
from sweep.sweep import SweepError
from tests.unit.world import DAYS, KEY, NOW, Answer, World, answer, page, page_v3, problem, stale, stale_v3

# Everything that is listed and idle, however large a share of the listing that is.
ENDS: dict[str, Any] = {"idle_for": "P1D", "dry_run": False, "max_share": 1}


def ids(world: World) -> list[str]:
    return [body["session_id"] for body in world.enqueued()]


def session_ids(*numbers: int) -> list[str]:
    return [f"devin-{number:04}" for number in numbers]


def many(number: int, one: Callable[..., dict[str, Any]], *idle: int) -> list[dict[str, Any]]:
    """So many sessions, in use but for those of these numbers; queues in memory are slow with hundreds."""
    return [one(f"devin-{index:04}", idle=(5 if index in idle else 0) * DAYS) for index in range(number)]


# Pages as they should be -------------------------------------------------------------------------------------------


def test_v1_is_listed_by_offset_to_its_end(world: World) -> None:
    world.api.have(*many(150, stale, 0, 99, 100, 149))
    report = world.sweep(**ENDS)
    assert world.api.listed() == ["limit=100&offset=0", "limit=100&offset=100", "limit=100&offset=150"]
    assert (report["listed"], report["pages"], report["listing"]) == (150, 3, "complete")
    assert ids(world) == session_ids(0, 99, 100, 149)


def test_v3_is_listed_by_cursor_to_its_end(v3: World) -> None:
    v3.api.have(*many(401, stale_v3, 0, 199, 200, 400))
    report = v3.sweep(**ENDS)
    assert v3.api.listed() == ["first=200", "first=200&after=cursor-200", "first=200&after=cursor-400"]
    assert (report["listed"], report["pages"], report["listing"]) == (401, 3, "complete")
    assert ids(v3) == session_ids(0, 199, 200, 400)


def test_a_cursor_is_sent_back_as_it_came(v3: World) -> None:
    cursor = "a+b/c==&x=y#é"
    v3.api.on("LIST", "", page_v3(stale_v3("devin-1"), following=cursor), page_v3(stale_v3("devin-2")))
    v3.sweep(**ENDS)
    assert parse_qs(v3.api.listed()[1])["after"] == [cursor]
    assert ids(v3) == ["devin-1", "devin-2"]


def test_no_sessions_at_all_is_no_failure(world: World) -> None:
    report = world.sweep(**ENDS)
    assert (report["listed"], report["chosen"], report["listing"]) == (0, 0, "complete")


def test_short_pages_are_not_the_end(world: World) -> None:
    world.api.on("LIST", "", page(stale("devin-1")), page(stale("devin-2"), stale("devin-3")), page())
    world.sweep(**ENDS)
    assert world.api.listed() == ["limit=100&offset=0", "limit=100&offset=1", "limit=100&offset=3"]
    assert ids(world) == ["devin-1", "devin-2", "devin-3"]


def test_an_empty_page_of_v3_is_not_the_end_if_it_says_so(v3: World) -> None:
    v3.api.on(
        "LIST", "", page_v3(following="a"), page_v3(stale_v3("devin-1"), following="b"), page_v3(stale_v3("devin-2"))
    )
    v3.sweep(**ENDS)
    assert ids(v3) == ["devin-1", "devin-2"]


# Pages that shift --------------------------------------------------------------------------------------------------


def test_a_session_that_is_listed_twice_is_enqueued_once_and_counted_once(world: World) -> None:
    world.api.on("LIST", "", page(stale("devin-1"), stale("devin-2")), page(stale("devin-2"), stale("devin-3")), page())
    report = world.sweep(**ENDS)
    assert report["listed"] == report["chosen"] == report["enqueued"] == 3
    assert ids(world) == ["devin-1", "devin-2", "devin-3"]


@pytest.mark.parametrize(
    "otherwise",
    [
        {"updated_at": NOW.isoformat()},
        {"tags": ["keep"]},
        {"tags": "unreadable"},
        {"updated_at": None},
        {"created_at": "soon"},
        {"status": None, "status_enum": None},
        {"status_enum": "finished"},
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_a_session_that_one_of_two_pages_would_keep_is_kept(
    world: World, otherwise: dict[str, Any], *, first: bool
) -> None:
    showings = [stale("devin-1"), stale("devin-1", **otherwise)]
    one, other = reversed(showings) if first else showings
    world.api.on("LIST", "", page(one, stale("devin-2")), page(other, stale("devin-3")), page())
    report = world.sweep(**ENDS)
    assert report["listed"] == 3
    assert ids(world) == ["devin-2", "devin-3"]


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_of_two_dates_the_earlier_one_is_the_condition(world: World, *, first: bool) -> None:
    showings = [stale("devin-1", idle=timedelta(days=3)), stale("devin-1", idle=timedelta(days=4))]
    one, other = reversed(showings) if first else showings
    world.api.on("LIST", "", page(one), page(other), page())
    world.sweep(**ENDS)
    assert world.enqueued() == [
        {"session_id": "devin-1", "unless_updated_since": (NOW - timedelta(days=4)).isoformat()}
    ]


def test_what_is_not_listed_any_more_because_pages_shift_is_only_missed(world: World) -> None:
    everything = many(150, stale, 0, 99, 105, 110, 149)
    answers = iter([everything[:100], everything[110:150], []])
    world.api.before = lambda: world.api.on("LIST", "", page(*next(answers)))
    world.sweep(**ENDS)
    assert ids(world) == session_ids(0, 99, 110, 149)


# Pages that do not end ---------------------------------------------------------------------------------------------


def circles(number: int) -> Answer:
    at = "abc"[number % 3]
    return page_v3(stale_v3(f"devin-{at}"), following=at)


# The version, and what it answers to the first, the second, ... question.
UNENDING: dict[str, tuple[int, Callable[[int], Answer]]] = {
    "v1 gives the first page for every offset": (1, lambda _: page(stale("devin-1"), stale("devin-2"))),
    "v1 never comes to an end": (1, lambda number: page(stale(f"devin-{number}"))),
    "v1 lists nothing but what is unreadable": (1, lambda _: page(None, {}, "devin-1", 7)),
    "v3 repeats its cursor": (3, lambda _: page_v3(stale_v3("devin-1"), following="again")),
    "v3 never comes to an end": (3, lambda number: page_v3(stale_v3(f"devin-{number}"), following=f"c{number}")),
    "v3 repeats its sessions under new cursors": (
        3,
        lambda number: page_v3(stale_v3("devin-1"), following=f"c{number}"),
    ),
    "v3 always has a next page, and nothing on it": (3, lambda number: page_v3(following=f"c{number}")),
    "v3 goes round in circles": (3, circles),
}


@pytest.mark.parametrize(("version", "said"), UNENDING.values(), ids=UNENDING)
def test_a_listing_without_end_is_ended_and_nothing_is_enqueued(
    world: World,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    said: Callable[[int], Answer],
) -> None:
    monkeypatch.setattr("sweep.listing.MOST_PAGES", 20)
    if version == 3:
        request.getfixturevalue("v3")
    numbers = itertools.count()
    world.api.before = lambda: world.api.on("LIST", "", said(next(numbers)))
    try:
        report = world.sweep(**ENDS)
    except SweepError as error:
        assert "nothing was enqueued" in str(error)  # noqa: PT017 - loud or not, either way is right
    else:
        assert report["listing"] != "complete"
        assert report["enqueued"] == 0
    assert 1 <= len(world.api.listed()) <= 20
    assert ids(world) == []


def test_a_cursor_that_was_followed_before_is_not_followed_again(v3: World) -> None:
    numbers = itertools.count()
    v3.api.before = lambda: v3.api.on("LIST", "", page_v3(stale_v3(f"devin-{next(numbers)}"), following="again"))
    report = v3.sweep(idle_for="P1D", max_share=1)
    assert (report["listing"], report["pages"], report["listed"]) == ("the API repeats itself", 2, 2)


def test_a_listing_that_time_runs_out_for_is_ended_and_nothing_is_enqueued(world: World) -> None:
    world.api.have(*many(1000, stale, 0, 150, 900))
    world.context.remaining_milliseconds = 60_000

    def time_passes() -> None:
        world.context.remaining_milliseconds -= 20_000

    world.api.before = time_passes
    try:
        report = world.sweep(**ENDS)
    except SweepError as error:
        assert "nothing was enqueued" in str(error)  # noqa: PT017 - loud or not, either way is right
    else:
        assert (report["listing"], report["enqueued"]) == ("out of time", 0)
    assert len(world.api.listed()) == 3
    assert ids(world) == []


def test_a_listing_that_was_given_up_ends_no_session_that_its_rest_would_protect(world: World) -> None:
    protected = stale("devin-1", tags=["keep"])
    world.api.on("LIST", "", *[page(stale("devin-1"))] * 4, page(protected), page(stale("devin-2")), page())
    try:
        world.sweep(**ENDS)
    except SweepError as error:
        assert "nothing was enqueued" in str(error)  # noqa: PT017 - loud or not, either way is right
    assert "devin-1" not in ids(world)


def test_a_dry_run_says_that_its_listing_has_no_end(world: World) -> None:
    world.api.on("LIST", "", page(stale("devin-1")))
    report = world.sweep(idle_for="P1D", max_share=1)
    assert (report["listing"], report["listed"]) == ("the API repeats itself", 1)


def test_with_no_time_at_all_no_page_is_asked_for(world: World) -> None:
    world.api.have(stale("devin-1"))
    world.context.remaining_milliseconds = 1000
    try:
        report = world.sweep(**ENDS)
    except SweepError as error:
        assert "nothing was enqueued" in str(error)  # noqa: PT017 - loud or not, either way is right
    else:
        assert (report["listing"], report["enqueued"]) == ("out of time", 0)
    assert world.api.listed() == []


@pytest.mark.parametrize("more", [False, None])
def test_a_page_that_has_no_next_one_is_the_last(v3: World, more: object) -> None:
    v3.api.on("LIST", "", page_v3(stale_v3("devin-1"), has_next_page=more, end_cursor="more"))
    assert v3.sweep(**ENDS)["listing"] == "complete"
    assert v3.api.listed() == ["first=200"]


@pytest.mark.parametrize(
    "lie",
    [
        {"has_next_page": True, "end_cursor": None},
        {"has_next_page": True, "end_cursor": ""},
        {"has_next_page": True, "end_cursor": 7},
        {"has_next_page": "true", "end_cursor": "more"},
        {"has_next_page": 1, "end_cursor": "more"},
        {"has_next_page": [], "end_cursor": {}},
    ],
)
def test_a_page_with_more_to_come_and_no_way_to_it_fails_the_sweep(v3: World, lie: dict[str, Any]) -> None:
    v3.api.on("LIST", "", page_v3(stale_v3("devin-1"), **lie))
    with pytest.raises(SweepError, match="nothing was enqueued"):
        v3.sweep(**ENDS)
    assert v3.api.listed() == ["first=200"]
    assert ids(v3) == []


def test_has_next_page_may_be_missing(v3: World) -> None:
    v3.api.on("LIST", "", answer(200, {"items": [stale_v3("devin-1")], "end_cursor": "more"}))
    assert v3.sweep(**ENDS)["listing"] == "complete"
    assert ids(v3) == ["devin-1"]


def test_as_many_pages_as_may_be_are_listed_and_not_one_more() -> None:
    def fetch(following: str | None) -> Page:
        number = int(following or 0)
        return Page((Session(f"devin-{number}"), Session(f"devin-{number}-x")), str(number + 1))

    listing = Listing(fetch, lambda: True)
    assert len(list(listing)) == listing.listed == 2 * MOST_PAGES
    assert (listing.pages, listing.complete) == (MOST_PAGES, False)


def test_a_listing_of_just_as_many_pages_is_complete() -> None:
    def fetch(following: str | None) -> Page:
        number = int(following or 1)
        return Page((Session(f"devin-{number}"),), str(number + 1) if number < MOST_PAGES else None)

    listing = Listing(fetch, lambda: True)
    assert len(list(listing)) == MOST_PAGES
    assert listing.complete


# An API that fails -------------------------------------------------------------------------------------------------

FAULTS: dict[str, Answer | Exception] = {
    "400": answer(400, {"detail": "Bad Request"}),
    "401": answer(401, {"detail": "Unauthorized"}),
    "403": answer(403, {"detail": "Forbidden"}),
    "404": answer(404, {"detail": "Not Found"}),
    "410": answer(410, {"detail": "v1 is gone"}),
    "422": answer(422, {"detail": [{"loc": ["query", "offset"], "msg": "too large", "type": "value_error"}]}),
    "429": answer(429, "", Retry_After="5"),
    "500": answer(500, "<h1>Internal Server Error</h1>"),
    "503": answer(503),
    "a redirect": answer(302, "", Location="http://127.0.0.1:9/v1/sessions?limit=1"),
    "no JSON": answer(200, "<html>maintenance</html>"),
    "an empty body": answer(200, ""),
    "half a body": answer(200, '{"sessions": [{"session_id": "devin-1"'),
    "a list": answer(200, [stale("devin-1")]),
    "null": answer(200, "null"),
    "no sessions": answer(200, {"detail": "ok"}),
    "sessions that are no list": answer(200, {"sessions": {"devin-1": stale("devin-1")}}),
    "deep JSON": answer(200, "[" * 100_000),
    "a timeout": requests.ReadTimeout("slow"),
    "no connection": requests.ConnectionError("refused"),
    "TLS": requests.exceptions.SSLError("bad certificate"),
    "a body cut short": requests.exceptions.ChunkedEncodingError("cut"),
}


@pytest.mark.parametrize("pages_before", [0, 1])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_page_that_fails_fails_the_sweep_and_nothing_is_enqueued(
    world: World, fault: Answer | Exception, pages_before: int
) -> None:
    world.api.on("LIST", "", *[page(stale("devin-1"))] * pages_before, fault)
    with pytest.raises(SweepError, match=r"^listing sessions: .*nothing was enqueued$") as failed:
        world.sweep(**ENDS)
    assert "\n" not in str(failed.value)
    assert len(str(failed.value)) < 1000
    if isinstance(fault, tuple):
        assert f"the API answered {fault[0]}" in str(failed.value)
    assert ids(world) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (problem(403, "Forbidden", "The key does not give access"), "answered 403: Forbidden: The key does not"),
        (problem(422, "Unprocessable", "query.after: not a cursor"), "answered 422: Unprocessable: query.after"),
        (page(stale("devin-1")), "the API answered 200"),
    ],
)
def test_v3_says_why_it_fails(v3: World, fault: Answer, words: str) -> None:
    v3.api.on("LIST", "", page_v3(stale_v3("devin-1"), following="a"), fault)
    with pytest.raises(SweepError) as failed:
        v3.sweep(**ENDS)
    assert words in str(failed.value)
    assert ids(v3) == []


def test_a_key_that_was_rotated_on_the_way_is_read_anew(world: World) -> None:
    world.api.have(*many(150, stale, 0, 149))
    world.sweep(idle_for="P1D")
    world.secrets.put_secret_value(SecretId=world.secret, SecretString="apk_new")
    world.api.good_keys = {"apk_new"}
    world.api.keys.clear()

    world.sweep(**ENDS)

    assert world.api.keys == [KEY, "apk_new", "apk_new", "apk_new"]
    assert ids(world) == session_ids(0, 149)


def test_a_key_of_the_other_version_does_not_carry_a_place_in_the_listing_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_ORG_ID", "org-abc123def456")
    world.api.on(
        "LIST",
        "",
        page(stale("devin-1")),
        answer(401, {"detail": "Unauthorized"}),
        problem(422, "Unprocessable", "query.after: not a cursor"),
    )
    calls = itertools.count(1)

    def rotate() -> None:
        if next(calls) == 2:
            world.secrets.put_secret_value(SecretId=world.secret, SecretString="cog_new")

    world.api.before = rotate
    with pytest.raises(SweepError):
        world.sweep(**ENDS)
    assert ids(world) == []


@pytest.mark.parametrize("secret", ["apk_bad\n", '{"api_key": ""}', "{"])
def test_without_a_usable_key_the_sweep_fails(world: World, secret: str) -> None:
    world.secrets.put_secret_value(SecretId=world.secret, SecretString=secret)
    with pytest.raises(ApiKeyError, match="store the bare key") as failed:
        world.sweep(**ENDS)
    assert "bad" not in str(failed.value)
    assert world.api.calls == []


def test_an_api_that_repeats_the_key_does_not_get_it_into_the_error(world: World) -> None:
    world.api.on("LIST", "", answer(500, f"no such key: {KEY}\r\n\x1b[31m" + "x" * 100_000))
    with pytest.raises(SweepError) as failed:
        world.sweep(**ENDS)
    assert "canary" not in repr(failed.value)
    assert failed.value.__cause__ is None
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 1000


# Clocks ------------------------------------------------------------------------------------------------------------


def on_the_clock(offset: timedelta) -> str:
    return format_datetime(datetime.now(UTC) + offset, usegmt=True)


@pytest.mark.parametrize(
    "offset",
    [timedelta(hours=1), -timedelta(hours=1), timedelta(minutes=10), -timedelta(minutes=10), timedelta(days=9999)],
    ids=str,
)
def test_clocks_that_differ_fail_the_sweep(world: World, offset: timedelta) -> None:
    said = page(stale("devin-1"))
    world.api.on("LIST", "", page(stale("devin-2")), (said[0], {"Date": on_the_clock(offset)}, said[2]))
    with pytest.raises(SweepError, match=r"differ by [0-9]+ s.*nothing"):
        world.sweep(**ENDS)
    assert ids(world) == []


@pytest.mark.parametrize("offset", [timedelta(0), timedelta(minutes=2), -timedelta(minutes=2)], ids=str)
def test_clocks_that_differ_by_little_do_not_matter(world: World, offset: timedelta) -> None:
    said = page(stale("devin-1"))
    world.api.on("LIST", "", (said[0], {"Date": on_the_clock(offset)}, said[2]), page())
    world.sweep(**ENDS)
    assert ids(world) == ["devin-1"]


@pytest.mark.parametrize(
    "date",
    [
        "",
        "now",
        "Tue, 99 Nov 2026 10:00:00 GMT",
        "Tue, 24 Nov 99999 10:00:00 GMT",
        "Tue, 24 Nov 2026 10:00:00 +9999",
        "Tue, 24 Nov 2026 10:00:00 +99999999999999",
        "Fri, 31 Dec 9999 23:59:59 -1200",
        "Mon, 01 Jan 0001 00:00:00 +1200",
        "\x00",
        "1" * 10_000,
    ],
)
def test_a_date_that_cannot_be_read_crashes_nothing(world: World, date: str) -> None:
    said = page(stale("devin-1"))
    world.api.on("LIST", "", (said[0], {"Date": date}, said[2]), page())
    try:
        report = world.sweep(**ENDS)
    except SweepError:
        assert ids(world) == []
    else:
        assert report["enqueued"] == len(ids(world)) == 1


@pytest.mark.parametrize(
    ("updated_at", "chosen"),
    [
        # An idle time of a day, at ten o'clock in UTC.
        ("2026-11-23T10:00:00Z", True),
        ("2026-11-23T10:00:01Z", False),
        ("2026-11-23T10:00:00", True),
        ("2026-11-23T10:00:00.000001", False),
        ("2026-11-23T12:00:00+02:00", True),
        ("2026-11-23T11:00:00+00:30", False),
        ("2026-11-22T22:00:00-12:00", True),
        ("2026-11-23T23:00:00-11:00", False),
        ("20261123T100000Z", True),
        ("2026-11-24T10:00:01Z", False),
        ("2026-11-24T11:00:00Z", False),
        ("9999-12-31T23:59:59Z", False),
        ("9999-12-31T23:59:59-14:00", False),
        ("99999-12-31T23:59:59Z", False),
        ("2026-11-23 25:00:00Z", False),
        ("yesterday", False),
        ("", False),
        (None, False),
        (True, False),
        (1e300, False),
        ([2026, 11, 23], False),
    ],
)
def test_dates_are_judged_in_utc_and_kept_when_in_doubt(world: World, updated_at: object, *, chosen: bool) -> None:
    world.api.have(stale("devin-1", created_at="2026-11-01T00:00:00Z", updated_at=updated_at))
    world.sweep(**ENDS)
    assert ids(world) == (["devin-1"] if chosen else [])


@pytest.mark.parametrize(
    ("updated_at", "chosen"),
    [
        (int(NOW.timestamp()) - 86_400, True),
        (NOW.timestamp() - 86_400.0, True),
        (int(NOW.timestamp()) - 86_399, False),
        (int(NOW.timestamp()) + 1, False),
        (int(NOW.timestamp()) * 1000, False),
        (253_402_300_799, False),
        (10**30, False),
        (str(int(NOW.timestamp()) - 86_400), False),
        (None, False),
        (False, False),
    ],
)
def test_v3_tells_seconds(v3: World, updated_at: object, *, chosen: bool) -> None:
    created_at = int((NOW - timedelta(days=30)).timestamp())
    v3.api.have(stale_v3("devin-1", created_at=created_at, updated_at=updated_at))
    v3.sweep(**ENDS)
    assert ids(v3) == (["devin-1"] if chosen else [])


def test_what_is_no_number_in_json_is_no_date(world: World) -> None:
    text = json.dumps({"sessions": [stale("devin-1", updated_at=float("nan")), stale("devin-2", created_at=-1e999)]})
    world.api.on("LIST", "", answer(200, text), page())
    assert world.sweep(**ENDS)["kept"] == {"no date": 2}


def test_sessions_without_an_id_do_not_make_the_share_look_smaller(world: World) -> None:
    nameless = [stale("devin-x") | {"session_id": None}] * 9
    world.api.on("LIST", "", page(stale("devin-1"), *nameless), page())
    with pytest.raises(CapExceededError, match="1 of 1 sessions"):
        world.sweep(**ENDS | {"max_share": 0.5})
    assert ids(world) == []

"""Listings: pages that shift, repeat, are empty, never end or lie, and an API that fails on the way."""

import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from devin.session import Page, Session
from sweep import listing
from sweep.listing import MAX_PAGES, Listing
from sweep.sweep import SweepError
from tests.unit.world import DAYS, KEY, NOW, Answer, World, answer, page, page_v3, problem, stale, stale_v3

# Everything that is listed and idle, however large a share of the listing that is.
ENDS: dict[str, Any] = {"idle_for": "P1D", "dry_run": False, "max_share": 1}


def ids(world: World) -> list[str]:
    return [body["session_id"] for body in world.enqueued()]


def many(number: int, one: Callable[..., dict[str, Any]], *idle: int) -> list[dict[str, Any]]:
    """So many sessions, in use but for those of these numbers; queues in memory are slow with hundreds."""
    return [one(f"devin-{index:04}", idle=(5 if index in idle else 0) * DAYS) for index in range(number)]


# Pages as they should be -------------------------------------------------------------------------------------------


def test_v1_is_listed_by_offset_to_its_end(world: World) -> None:
    world.api.have(*many(150, stale, 0, 99, 100, 149))
    report = world.sweep(**ENDS)
    assert world.api.listed() == ["limit=100&offset=0", "limit=100&offset=100", "limit=100&offset=150"]
    assert (report["listed"], report["pages"], report["listing"]) == (150, 3, "complete")
    assert ids(world) == ["devin-0000", "devin-0099", "devin-0100", "devin-0149"]


def test_v3_is_listed_by_cursor_to_its_end(v3: World) -> None:
    v3.api.have(*many(401, stale_v3, 0, 199, 200, 400))
    report = v3.sweep(**ENDS)
    assert v3.api.listed() == ["first=200", "first=200&after=cursor-200", "first=200&after=cursor-400"]
    assert (report["listed"], report["pages"], report["listing"]) == (401, 3, "complete")
    assert ids(v3) == ["devin-0000", "devin-0199", "devin-0200", "devin-0400"]


def test_a_cursor_is_sent_back_as_it_came_and_an_empty_page_may_have_one(v3: World) -> None:
    cursor = "a+b/c==&x=y#é"
    v3.api.on("LIST", "", page_v3(following=cursor), page_v3(stale_v3("devin-2")))
    v3.sweep(**ENDS)
    assert parse_qs(v3.api.listed()[1])["after"] == [cursor]
    assert ids(v3) == ["devin-2"]


def test_short_pages_are_not_the_end(world: World) -> None:
    world.api.on("LIST", "", page(stale("devin-1")), page(stale("devin-2"), stale("devin-3")), page())
    world.sweep(**ENDS)
    assert world.api.listed() == ["limit=100&offset=0", "limit=100&offset=1", "limit=100&offset=3"]
    assert ids(world) == ["devin-1", "devin-2", "devin-3"]


# Pages that shift --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "otherwise",
    [
        {"updated_at": NOW.isoformat()},
        {"tags": ["keep"]},
        {"tags": "unreadable"},
        {"created_at": "soon"},
        {"status": None, "status_enum": None},
        {"status_enum": "expired"},
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.fault(25)
def test_a_session_is_counted_once_and_kept_if_one_of_two_pages_would(
    world: World, otherwise: dict[str, Any], *, first: bool
) -> None:
    occurrences = [stale("devin-1"), stale("devin-1", **otherwise)]
    one, other = reversed(occurrences) if first else occurrences
    world.api.on("LIST", "", page(one, stale("devin-2")), page(other, stale("devin-2"), stale("devin-3")), page())
    report = world.sweep(**ENDS)
    assert (report["listed"], report["enqueued"]) == (3, 2)
    assert ids(world) == ["devin-2", "devin-3"]


@pytest.mark.parametrize("days", [(3, 4), (4, 3)])
def test_of_two_dates_the_earlier_one_is_the_condition(world: World, days: tuple[int, int]) -> None:
    world.api.on("LIST", "", *(page(stale("devin-1", idle=number * DAYS)) for number in days), page())
    world.sweep(**ENDS)
    assert world.enqueued() == [{"session_id": "devin-1", "unless_updated_since": (NOW - 4 * DAYS).isoformat()}]


# Pages that do not end ---------------------------------------------------------------------------------------------


def in_circles(number: int) -> Answer:
    at = "abc"[number % 3]
    return page_v3(stale_v3(f"devin-{at}"), following=at)


# The version, and what it answers to the first, the second, ... question.
UNENDING: dict[str, tuple[int, Callable[[int], Answer]]] = {
    "v1 gives the first page for every offset": (1, lambda _: page(stale("devin-1"), stale("devin-2"))),
    "v1 never comes to an end": (1, lambda number: page(stale(f"devin-{number}"))),
    "v1 lists nothing but what is unreadable": (1, lambda _: page(None, {}, "devin-1", 7)),
    "v3 repeats its cursor": (3, lambda _: page_v3(stale_v3("devin-1"), following="again")),
    "v3 never comes to an end": (3, lambda number: page_v3(stale_v3(f"devin-{number}"), following=f"c{number}")),
    "v3 repeats its sessions": (3, lambda number: page_v3(stale_v3("devin-1"), following=f"c{number}")),
    "v3 always has a next page, and nothing on it": (3, lambda number: page_v3(following=f"c{number}")),
    "v3 goes in circles": (3, in_circles),
}


@pytest.mark.fault(25)
@pytest.mark.parametrize(("version", "said"), UNENDING.values(), ids=UNENDING)
def test_a_listing_without_end_is_ended_and_nothing_is_enqueued(
    world: World,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    said: Callable[[int], Answer],
) -> None:
    monkeypatch.setattr("sweep.listing.MAX_PAGES", 20)
    if version == 3:
        request.getfixturevalue("v3")
    numbers = itertools.count()
    world.api.before = lambda: world.api.on("LIST", "", said(next(numbers)))
    with pytest.raises(SweepError, match="nothing was enqueued"):
        world.sweep(**ENDS)
    assert 1 <= len(world.api.listed()) <= 20
    assert ids(world) == []
    assert world.sweep(**ENDS | {"dry_run": True})["listing"] in {"the API repeats itself", "more than 20 pages"}


@pytest.mark.parametrize(("milliseconds", "pages"), [(60_000, 3), (1000, 0)])
def test_a_listing_that_time_runs_out_for_is_ended_and_nothing_is_enqueued(
    world: World, milliseconds: int, pages: int
) -> None:
    world.api.have(*many(1000, stale, 0, 150, 900))
    world.context.remaining_milliseconds = milliseconds

    def time_passes() -> None:
        world.context.remaining_milliseconds -= 20_000

    world.api.before = time_passes
    with pytest.raises(SweepError, match=f"out of time after {pages} pages; nothing was enqueued"):
        world.sweep(**ENDS)
    assert len(world.api.listed()) == pages
    assert ids(world) == []


@pytest.mark.parametrize("following", [None, ""])
def test_as_many_pages_as_may_be_are_listed_and_not_one_more(following: str | None) -> None:
    def fetch(cursor: str | None) -> Page:
        number = int(cursor or 1)
        return Page((Session(f"devin-{number}"),), str(number + 1) if number < MAX_PAGES else following)

    listed = Listing(fetch, lambda: True)
    assert len(list(listed)) == listed.pages == MAX_PAGES
    assert (listed.end == "complete") is (following is None)


def test_a_listing_of_too_many_sessions_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_SESSIONS", 3)
    numbers = itertools.count()
    listed = Listing(lambda _: Page((Session(f"devin-{next(numbers)}"),), f"c{next(numbers)}"), lambda: True)
    assert len(list(listed)) == 4
    assert listed.end == "more than 3 sessions"


# An API that fails -------------------------------------------------------------------------------------------------

FAULTS: dict[str, Answer | Exception] = {
    "401": answer(401, {"detail": "Unauthorized"}),
    "422": answer(422, {"detail": [{"loc": ["query", "offset"], "msg": "too large", "type": "value_error"}]}),
    "429": answer(429, "", Retry_After="5"),
    "500": answer(500, f"<h1>no such key: {KEY}\r\n\x1b[31m" + "x" * 100_000),
    "no JSON": answer(200, "<html>maintenance</html>"),
    "sessions that are no list": answer(200, {"sessions": {"devin-1": stale("devin-1")}}),
    "a timeout": requests.ReadTimeout("slow"),
}


@pytest.mark.parametrize("pages_before", [0, 1])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_page_that_fails_fails_the_sweep_and_nothing_is_enqueued(
    world: World, fault: Answer | Exception, pages_before: int
) -> None:
    world.api.on("LIST", "", *[page(stale("devin-1"))] * pages_before, fault)
    with pytest.raises(SweepError, match=r"^listing sessions: .*nothing was enqueued$") as failed:
        world.sweep(**ENDS)
    assert str(failed.value).isprintable()
    assert "canary" not in repr(failed.value)
    assert failed.value.__cause__ is None
    assert len(str(failed.value)) < 1000
    if isinstance(fault, tuple):
        assert f"the API answered {fault[0]}" in str(failed.value)
    assert ids(world) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (problem(403, "Forbidden", "The key does not give access"), "answered 403: Forbidden: The key does not"),
        (problem(422, "Unprocessable", "query.after: not a cursor"), "answered 422: Unprocessable: query.after"),
        (page(stale("devin-1")), "the API answered 200: a page that cannot be read"),
        *(
            (page_v3(stale_v3("devin-1"), has_next_page=more, end_cursor=cursor), "a page that cannot be read")
            for more, cursor in ((True, None), (True, ""), (True, 7), ("true", "more"), (1, "more"), ([], {}))
        ),
    ],
)
def test_v3_says_why_it_fails(v3: World, fault: Answer, words: str) -> None:
    v3.api.on("LIST", "", page_v3(stale_v3("devin-1"), following="a"), fault)
    with pytest.raises(SweepError) as failed:
        v3.sweep(**ENDS)
    assert words in str(failed.value)
    assert ids(v3) == []


def test_a_key_that_was_rotated_on_the_way_is_read_again(world: World) -> None:
    world.api.have(*many(150, stale, 0, 149))
    world.sweep(idle_for="P1D")
    world.secrets.put_secret_value(SecretId=world.secret, SecretString="apk_new")
    world.api.good_keys = {"apk_new"}
    world.api.keys.clear()
    world.sweep(**ENDS)
    assert world.api.keys == [KEY, "apk_new", "apk_new", "apk_new"]
    assert ids(world) == ["devin-0000", "devin-0149"]


def test_without_a_usable_key_the_sweep_fails(world: World) -> None:
    world.secrets.put_secret_value(SecretId=world.secret, SecretString='{"api_key": ""}')
    with pytest.raises(SweepError, match="store the bare key"):
        world.sweep(**ENDS)
    assert world.api.calls == []


# Clocks and dates --------------------------------------------------------------------------------------------------


def dated(date: str) -> Answer:
    status, _, body = page(stale("devin-1"))
    return status, {"Date": date}, body


@pytest.mark.fault(28)
@pytest.mark.parametrize(("minutes", "fits"), [(60, False), (-60, False), (10**7, False), (2, True), (-2, True)])
def test_clocks_that_differ_by_more_than_minutes_fail_the_sweep(world: World, minutes: int, *, fits: bool) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    world.api.on("LIST", "", dated(date), page())
    if fits:
        world.sweep(**ENDS)
    else:
        with pytest.raises(SweepError, match=r"differ by [0-9]+ s.*nothing"):
            world.sweep(**ENDS)
    assert ids(world) == (["devin-1"] if fits else [])


@pytest.mark.parametrize(
    "date",
    ["", "now", "Tue, 99 Nov 2026 10:00:00 GMT", "Tue, 24 Nov 2026 10:00:00 +99999999999999", "\x00", "1" * 9999],
)
def test_a_date_header_that_cannot_be_read_says_nothing(world: World, date: str) -> None:
    world.api.on("LIST", "", dated(date), page())
    assert world.sweep(**ENDS)["enqueued"] == len(ids(world)) == 1


SECOND = int(NOW.timestamp())
# What is idle for a day, at ten o'clock in UTC, and what is not or not for certain.
IDLE_FOR_A_DAY: dict[str, tuple[object, ...]] = {
    "world": ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00", "2026-11-23T12:00:00+02:00"),
    "v3": (SECOND - 86_400, SECOND - 86_400.0),
}
NOT_FOR_A_DAY: dict[str, tuple[object, ...]] = {
    "world": (
        "2026-11-23T10:00:01Z", "2026-11-23T10:00:00.000001", "2026-11-23T11:00:00+00:30", "2026-11-24T10:00:01Z",
        "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2026-11-23 25:00:00Z", "", None,
        True, 0, 1e300, math.nan, [2026, 11, 23],
    ),
    "v3": (SECOND - 86_399, SECOND * 1000, 10**30, str(SECOND - 86_400), False),
}  # fmt: skip


@pytest.mark.parametrize("version", IDLE_FOR_A_DAY)
def test_dates_are_compared_in_utc_and_keep_when_in_doubt(request: pytest.FixtureRequest, version: str) -> None:
    world: World = request.getfixturevalue(version)
    dates = [*IDLE_FOR_A_DAY[version], *NOT_FOR_A_DAY[version]]
    one, created_at = (stale, "2026-11-01T00:00:00Z") if version == "world" else (stale_v3, SECOND - 2_592_000)
    world.api.have(*(one(f"devin-{n:02}", created_at=created_at, updated_at=date) for n, date in enumerate(dates)))
    world.sweep(**ENDS)
    assert ids(world) == [f"devin-{n:02}" for n in range(len(IDLE_FOR_A_DAY[version]))]

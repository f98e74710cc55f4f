"""What the API says: sessions, pages, explanations and headers, from an API that may say anything."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any

from devin.client import DevinClient
from devin.error_detail import error_detail
from devin.http import Reply
from devin.session import Page, Session
from redaction import Redactor, one_line
from retry import MAX_DELAY_SECONDS, parse_retry_after, retry_delay
from sweep.policy import FLOOR, Policy
from sweep.selection import Selection
from terminate.outcomes import Outcome, outcome_of
from tests.fuzz import sources
from tests.fuzz.checking import Target
from tests.fuzz.doubles import ScriptedTransport

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
KEYS = {"v1": "apk_fuzz-0123456789", "v3": "cog_fuzz-0123456789"}
_ON_THE_WIRE = re.compile(r"devin-[A-Za-z0-9_-]{1,122}", re.ASCII)
EXITED = {"v1": {"finished", "expired", "stopped", "exit", "exited", "terminated"}, "v3": {"exit"}}
_FIELDS = (
    "session_id", "status", "status_enum", "status_detail", "created_at", "updated_at", "tags", "title", "user_id",
    "requesting_user_email", "pull_request", "pull_requests", "acus_consumed", "sessions", "items", "has_next_page",
    "end_cursor", "detail", "loc", "msg",
)  # fmt: skip
_STATUSES = (
    200,
    200,
    200,
    200,
    201,
    204,
    299,
    300,
    302,
    400,
    401,
    403,
    404,
    409,
    410,
    418,
    422,
    425,
    429,
    500,
    503,
    599,
)


def status(rng: Random) -> int:
    """A status of an answer, most often a 2xx."""
    return rng.choice(_STATUSES)


def _moment(rng: Random) -> Any:
    """When something happened, in the terms of either version, or not."""
    kind = rng.randrange(6)
    if kind < 3:
        at = NOW - timedelta(hours=rng.choice((-1, 0, 1, 2, 24, 120, 9000, 10**6)), microseconds=rng.randrange(2))
        return at.isoformat() if kind else int(at.timestamp())
    return rng.choice((sources.scalar(rng), rng.choice(sources.INSTANTS), rng.choice(sources.NO_INSTANTS)))


def session(rng: Random) -> dict[str, Any]:
    """A session, right in one of the versions or nearly so."""
    made: dict[str, Any] = {
        "session_id": rng.choice((sources.given_id(rng), sources.plain_id(rng)[6:], sources.scalar(rng))),
        "status": rng.choice(("running", "exit", "Finished", "blocked", "", None, sources.scalar(rng))),
        "created_at": _moment(rng),
        "updated_at": _moment(rng),
        "tags": rng.choice((None, [], ["nightly"], ["Keep"], ["nightly", 1], sources.json_value(rng, 1))),
    }
    if rng.randrange(2):
        made["status_enum"] = rng.choice((None, "blocked", "expired", "FINISHED", sources.scalar(rng)))
    for name in rng.sample(_FIELDS[7:13], rng.randrange(4)):
        made[name] = sources.json_value(rng, 2)
    if not rng.randrange(8):
        del made[rng.choice(list(made))]
    return made


def _page(rng: Random) -> Any:
    listed = [session(rng) if rng.randrange(5) else sources.json_value(rng, 1) for _ in range(rng.randrange(4))]
    made: dict[str, Any] = {rng.choice(("sessions", "items")): listed}
    if rng.randrange(2):
        made["has_next_page"] = rng.choice((True, False, None, 1, "true", sources.scalar(rng)))
        made["end_cursor"] = rng.choice(("c", "", None, sources.scalar(rng)))
    return made


def explanation(rng: Random) -> Any:
    """Why a call was refused, in one of the API's shapes or none of them."""
    kind = rng.randrange(5)
    if kind == 0:
        return {"detail": sources.text(rng)}
    if kind == 1:
        return {
            "detail": [{"loc": ["path", sources.scalar(rng)], "msg": sources.scalar(rng)}, sources.json_value(rng, 1)]
        }
    if kind == 2:
        return {"title": sources.scalar(rng), "status": 409, "detail": sources.scalar(rng)}
    return sources.json_value(rng)


def answer_body(rng: Random, made: Any) -> bytes:
    """The bytes of a JSON answer, sometimes damaged."""
    written = json.dumps(made, ensure_ascii=bool(rng.randrange(2)))
    if not rng.randrange(6):
        written = sources.mutated_text(rng, written)
    whole = written.encode("utf-16" if not rng.randrange(40) else "utf-8", "surrogatepass")
    if not rng.randrange(8):
        at = rng.randrange(len(whole) + 1)
        whole = (
            whole[:at]
            + rng.choice((b"", b"\xff", b"\x00", b"\xed\xa0\x80", b"\xef\xbb\xbf"))
            + whole[at + rng.randrange(3) :]
        )
    return whole


def _answer(rng: Random, made: Any) -> dict[str, Any]:
    return {"version": rng.choice(("v1", "v3")), "status": status(rng), "body": answer_body(rng, made)}


def _client(given: dict[str, Any]) -> DevinClient:
    reply = Reply(given.get("status", 200), {}, given.get("body", b""))
    return DevinClient(ScriptedTransport(lambda *_: reply), org_id="org-1", archive=False)


def parsed(body: bytes) -> Any:
    """The JSON value in a body, None if there is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def check_session_answer(given: dict[str, Any]) -> None:
    """The answer to a GET of one session."""
    version = given.get("version", "v1")
    reply, found = _client(given).get("devin-a", key=KEYS[version], seconds=5)
    assert reply.status == given.get("status", 200)
    fields = parsed(given.get("body", b""))
    assert (found is not None) == (200 <= reply.status < 300 and isinstance(fields, dict))
    if found is not None:
        _believable(found, fields, version)


def _believable(found: Session, fields: dict[str, Any], version: str) -> None:
    """Nothing is made of a session that it does not say, and nothing is alive or old by mistake."""
    told = fields.get("session_id")
    assert found.session_id is None or (isinstance(told, str) and found.session_id.endswith(told[-1:]))
    assert found.session_id is None or _ON_THE_WIRE.fullmatch(found.session_id)
    statuses = [fields.get("status_enum"), fields.get("status")] if version == "v1" else [fields.get("status")]
    said = [text for text in statuses if isinstance(text, str) and text]
    assert found.status == (said[0] if said else None)
    assert found.exited == (found.status is not None and found.status.lower() in EXITED[version])
    for name, moment in (("created_at", found.created_at), ("updated_at", found.updated_at)):
        assert moment is None or (moment.utcoffset() == timedelta(0) and moment.year >= 2024)
        if moment is not None and isinstance(fields[name], (int, float)):
            assert abs(moment.timestamp() - fields[name]) < 1
    for text in (found.title, found.user, found.status_detail):
        assert text is None or (text and text in fields.values())
    if found.tags is None:
        assert not isinstance(fields.get("tags", ""), list) or not all(isinstance(tag, str) for tag in fields["tags"])
    else:
        assert list(found.tags) == (fields["tags"] or [])
    assert found.acus is None or found.acus == fields["acus_consumed"] or math.isnan(found.acus)


# What a sweep would make of a listing; criteria that anything hostile might be made to meet.
_POLICIES = (
    Policy(idle_for=timedelta(hours=1)),
    Policy(older_than=timedelta(days=3), without_tags=("holy",)),
    Policy(statuses=("blocked", "running"), exclude_users=("root",)),
    Policy(title_matches="*a*", has_pull_request=False),
    Policy(min_acus=0.1, tags=("nightly",)),
)


def check_page(given: dict[str, Any]) -> None:
    """A page of a listing, and what a sweep would choose from it."""
    version = given.get("version", "v1")
    reply, page = _client(given).page(None, key=KEYS[version], seconds=5)
    fields = parsed(given.get("body", b""))
    listed = fields.get("sessions" if version == "v1" else "items") if isinstance(fields, dict) else None
    if page is None:
        more = fields.get("has_next_page") if isinstance(fields, dict) and version == "v3" else None
        told_nothing = reply.status not in range(200, 300) or not isinstance(listed, list)
        assert told_nothing or (more is not None and more is not False)
        return
    assert reply.status in range(200, 300)
    _believable_page(page, fields, version)
    for policy in _POLICIES:
        selection = Selection()
        for one in page.sessions:
            selection.add(one, policy, NOW, "keep")
        for choice in selection.chosen.values():
            shown = [
                raw for raw, one in zip(listed or [], page.sessions, strict=True) if one.session_id == choice.session_id
            ]
            assert shown
            for raw in shown:
                _stale(raw, policy, version)
            assert choice.updated_at <= NOW - (policy.idle_for or timedelta(0))


def _believable_page(page: Page, fields: dict[str, Any], version: str) -> None:
    listed = fields["sessions" if version == "v1" else "items"]
    assert len(page.sessions) == len(listed)
    for raw, one in zip(listed, page.sessions, strict=True):
        _believable(one, raw if isinstance(raw, dict) else {}, version)
    if version == "v1":
        assert page.following == (str(len(listed)) if listed else None)
    else:
        assert page.following == (fields["end_cursor"] if fields.get("has_next_page") else None)
        assert page.following is None or page.following


def _stale(raw: dict[str, Any], policy: Policy, version: str) -> None:
    """What the API said of a chosen session, in its own words, admits no doubt."""
    assert isinstance(raw, dict)
    tags = raw.get("tags") or []
    assert "tags" in raw, "chosen without knowing its tags"
    assert not [tag for tag in tags if tag.casefold() == "keep"], "chosen in spite of its tag"
    created = told(raw["created_at"])
    assert NOW - created >= max(FLOOR, policy.older_than or FLOOR), "chosen too young"
    assert NOW - told(raw["updated_at"]) >= (policy.idle_for or timedelta(0)), "chosen while it was used"
    status_now = (raw.get("status_enum") if version == "v1" else None) or raw["status"]
    assert str(status_now).lower() not in EXITED[version], "chosen though it has exited"


def told(value: Any) -> datetime:
    """A moment in the terms of either version. Raises what conversions raise."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value, UTC)


def check_explanation(body: bytes) -> None:
    """An answer's body, where it is an error's."""
    said = error_detail(body)
    assert said is None or said
    assert said is not None or not body.decode("utf-8", "replace").strip() or b"detail" in body
    if said is not None:
        line = one_line(Redactor()(said), 1000)
        assert len(line) <= 1000
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", line)
        line.encode()


def check_retry_after(value: str | None) -> None:
    """A Retry-After header."""
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_DELAY_SECONDS
    digits = (value or "").strip()
    if digits.isascii() and digits.isdigit():
        assert seconds == min(int(digits[:9] if len(digits) < 10 else "999"), MAX_DELAY_SECONDS)
    for attempts, chance in ((1, 0.0), (3, 1.0), (10**6, 0.5)):
        delay = retry_delay(attempts, 30, seconds, lambda low, high, share=chance: low + (high - low) * share)  # type: ignore[misc]
        assert max(1, seconds or 0) <= delay <= MAX_DELAY_SECONDS


def retry_after(rng: Random) -> str | None:
    """A Retry-After header, right or not."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice((None, "", "0", "1", "900", "901", "-1", "1.5", " 7 ", "1e3", "\u0663", "\xb2", "9" * 500))
    if kind == 1:
        return str(rng.randrange(10 ** rng.randint(1, 12)))
    made = format_datetime(NOW + timedelta(seconds=rng.choice((-1e9, -1, 0, 30, 899, 1e9))), usegmt=True)
    if kind == 2:
        return made
    return sources.mutated_text(rng, made) if kind < 5 else sources.text(rng)


def check_status(given: int) -> None:
    """Any number where a status belongs."""
    outcome = outcome_of(given)
    assert (outcome is Outcome.TERMINATED) == (given // 100 == 2)
    assert outcome is not Outcome.REJECTED or given // 100 in {3, 4}


TARGETS = (
    Target("session", lambda rng: _answer(rng, session(rng)), check_session_answer, weight=3),
    Target("page", lambda rng: _answer(rng, _page(rng)), check_page, weight=3),
    Target("explanation", lambda rng: answer_body(rng, explanation(rng)), check_explanation, weight=2),
    Target("retry_after", retry_after, check_retry_after),
    Target("status", lambda rng: rng.randrange(-5, 1005), check_status),
)

"""The sessions of an organisation as a policy sorts them, for `sweep --chart`. It reads, and terminates nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from devin.api_key import ApiKeyError, ApiKeys
from devin.client import CALL_SECONDS, DevinClient, Throttle
from devin.http import Transport
from devin.session import Page, Session
from infra.ops.problems import FoundError
from infra.ops.snapshot import StackSnapshot
from redaction import Redactor
from settings import SettingsError
from sweep.listing import Listing
from sweep.policy import FLOOR, Policy, parse_policy
from sweep.selection import Selection
from table import Table, TableError, rejections_of

THRESHOLDS = ("PT1H", "PT2H", "PT4H", "PT8H", "PT12H", "P1D", "P2D", "P3D", "P5D", "P7D", "P14D")
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """A session that could be ended. `kept` is why it is kept, None if the policy chooses it."""

    idle: timedelta
    status: str
    user: str
    kept: str | None


@dataclass(frozen=True, slots=True)
class Threshold:
    """What the policy would choose with this `idle_for`, of so many hours; the policy's `own` may be none.

    `acus` is what the chosen have consumed. `waiting_acus` estimates what waiting so long, instead of an hour, has
    cost; both are None if the API tells no compute units.
    """

    idle_for: str
    hours: float
    own: bool
    chosen: int
    share: float
    over_caps: bool
    acus: float | None
    waiting_acus: float | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """`points` are the sessions that could be ended and have a usable date. `listing` is how the listing ended."""

    listing: str
    listed: int
    could_be_ended: int
    points: Sequence[Point]
    kept: Mapping[str, int]
    thresholds: Sequence[Threshold]


def list_sessions(stack: StackSnapshot, say: Callable[[str], object]) -> tuple[list[Session], str]:
    """All sessions, and how the listing ended. Raises FoundError, and what botocore raises.

    They are listed from this machine with the stack's key: an answer of the sweep function, of at most 6 MB, cannot
    hold them.
    """
    redact = Redactor()
    try:
        settings, key = stack.settings, stack.key
    except (SettingsError, ApiKeyError) as error:
        raise FoundError(f"the sessions cannot be listed: {error}") from None
    client = DevinClient(
        Transport(settings.devin_api_url),
        ApiKeys(lambda _: key, redact.remember),
        Throttle(),
        redact,
        org_id=settings.devin_org_id,
        keep_viewable=False,
        seconds_left=lambda: CALL_SECONDS,
    )

    def page(cursor: str | None) -> Page:
        if listing.pages and listing.pages % 10 == 0:
            say(f"{listing.pages} pages listed so far")
        answer = client.list_page(cursor)
        if answer.page is None:
            what = "a page that cannot be read" if answer.ok else answer.detail or "no explanation"
            raise FoundError(f"listing the sessions from this machine: {answer.status or 'no answer'}: {what}")
        return answer.page

    listing = Listing(page, lambda: True)
    return list(listing), listing.end


def rejected_before(
    stack: StackSnapshot, sessions: Iterable[Session], say: Callable[[str], object]
) -> dict[str, datetime | None]:
    """Sessions that the API refused to end before, which a sweep keeps."""
    if (table := stack.settings.announcements_table) is None:
        return {}
    ids = {one.session_id for one in sessions if one.session_id and not one.exited and not one.is_archived}
    try:
        return rejections_of(Table(lambda: stack.account.dynamodb, table), sorted(ids))
    except TableError as error:
        say(f"sessions that the API refused to end before count as if it had not: {error}")
        return {}


def survey(
    sessions: Sequence[Session],
    listing: str,
    raw_policy: Mapping[str, object],
    now: datetime,
    *,
    protect_tag: str,
    rejected: Mapping[str, datetime | None],
) -> Fleet:
    """Evaluate the sessions as the sweep does, by this policy and by each threshold in place of its `idle_for`."""
    policy = parse_policy(raw_policy)

    def select(variant: Policy) -> Selection:
        selection = Selection()
        for session in sessions:
            selection.add(session, variant, now, protect_tag)
        selection.keep_families()
        selection.keep_rejected(rejected)
        return selection

    selection = select(policy)
    ended = {one.session_id for one in sessions if one.exited or one.is_archived} | {None}
    # One that is listed twice is drawn once, with its later date.
    in_order = sorted(sessions, key=lambda one: one.updated_at or _NEVER)
    alive = {str(one.session_id): one for one in in_order if one.session_id not in ended}
    points = [
        Point(now - one.updated_at, _status(one), ", ".join(one.users) or "unknown", selection.reasons.get(session_id))
        for session_id, one in alive.items()
        if one.updated_at is not None and one.updated_at <= now
    ]
    # By length, so that the policy's own way to write one takes the place of another.
    lengths = {parse_policy({"idle_for": text}).criteria["idle_for"]: text for text in THRESHOLDS}
    lengths[policy.criteria.get("idle_for", timedelta(0))] = str(raw_policy.get("idle_for", "none"))
    widest = [alive[session_id] for session_id in select(_with_idle_for(policy, FLOOR)).matched]

    def threshold(length: timedelta, text: str) -> Threshold:
        own = length == policy.criteria.get("idle_for", timedelta(0))
        found = selection if own else select(_with_idle_for(policy, length))
        chosen = [alive[session_id] for session_id in found.matched]
        share = len(chosen) / found.alive if found.alive else 0.0
        told = any(one.acus is not None for one in sessions)
        return Threshold(
            text,
            length / timedelta(hours=1),
            own,
            len(chosen),
            share,
            len(chosen) > policy.max_sessions or share > policy.max_share,
            round(sum(one.acus or 0 for one in chosen), 1) if told else None,
            round(sum(_waiting_acus(one, length, now) for one in widest), 1) if told else None,
        )

    thresholds = [threshold(length, text) for length, text in sorted(lengths.items())]
    return Fleet(listing, selection.listed, selection.alive, points, dict(selection.kept.most_common()), thresholds)


def _status(session: Session) -> str:
    return " / ".join(text for text in (session.status, session.status_detail) if text) or "unknown"


def _waiting_acus(session: Session, wait: timedelta, now: datetime) -> float:
    """An estimate of what the session consumed after its first idle hour until `wait`: its share of what it consumed
    since it was created. A sleeping session consumes nothing."""
    if session.created_at is None or session.updated_at is None or (session.status or "").casefold() == "suspended":
        return 0.0
    waited = max(min(now - session.updated_at, wait) - FLOOR, timedelta(0))
    return (session.acus or 0.0) * (waited / (now - session.created_at))


def _with_idle_for(policy: Policy, length: timedelta) -> Policy:
    return replace(policy, criteria={**policy.criteria, "idle_for": length})

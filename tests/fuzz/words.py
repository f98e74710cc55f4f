"""What operators and strangers write: keys, settings, policies, and texts that hold a key."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import lru_cache
from random import Random
from typing import Any

from urllib3.util import parse_url

from devin.api_key import ApiKeyError, parse_api_key
from redaction import Redactor, one_line
from settings import Settings, SettingsError
from sweep.policy import CRITERIA, FLOOR, Policy, PolicyError, fingerprint, parse_policy
from tests.fuzz import sources
from tests.fuzz.checking import Target
from tests.fuzz.doubles import WAYS, disguised

_PRINTABLE = "".join(map(chr, range(33, 127)))


def key(rng: Random) -> str:
    """A key, most often one that looks like it."""
    prefix = rng.choice(("apk_user_", "apk_", "cog_", ""))
    alphabet = _PRINTABLE if not rng.randrange(4) else "abcXYZ0189_-"
    return prefix + "".join(rng.choices(alphabet, k=rng.choice((6, 8, 16, 40))))


def secret(rng: Random) -> str | bytes:
    """What somebody may have stored."""
    kind = rng.randrange(8)
    if kind == 0:
        return sources.text(rng)
    if kind == 1:
        return key(rng).encode()
    if kind == 2:
        return json.dumps(sources.json_value(rng))
    if kind == 3:
        return key(rng)
    names = ("api_key", "service_key", "token", "Api_Key", "other")
    stored = json.dumps({rng.choice(names): key(rng) if rng.randrange(4) else sources.scalar(rng) for _ in range(2)})
    return sources.mutated_text(rng, stored) if kind == 4 else rng.choice(("", " ", "\n")) + stored


def _says_nothing_of(secret: str, error: ApiKeyError) -> None:
    assert not [part for part in re.findall(r"(?:apk|cog)_[!-~]{6,}", secret) if part in str(error)]
    # A decoder's error, shown above this one in a traceback, would carry the whole document.
    assert error.__suppress_context__ or error.__context__ is None


def check_secret(given: str | bytes) -> None:
    """A secret is a key of printable ASCII, found where it belongs, or a complaint that repeats nothing of it."""
    try:
        found = parse_api_key(given)
    except ApiKeyError as error:
        _says_nothing_of(given if isinstance(given, str) else given.decode("latin-1"), error)
        return
    assert isinstance(given, str)
    assert found
    assert all(33 <= ord(char) <= 126 for char in found)
    if given != found:
        fields = json.loads(given)
        held = [fields.get(name) for name in ("api_key", "service_key", "token")]
        assert found == next(one for one in held if one is not None)


# A pattern is made for each key, which takes longer than all the rest.
_KEYS = [key(Random(number)) for number in range(120)]  # noqa: S311 - made up, the same ones every time


def leak(rng: Random) -> dict[str, Any]:
    """A text in which keys turn up, one of them whole or in disguise."""
    first = rng.randrange(len(_KEYS) - 3)
    return {
        "keys": _KEYS[first : first + 1 + first % 3],
        "way": rng.randrange(WAYS),
        "before": sources.text(rng),
        "after": sources.text(rng),
    }


@lru_cache(maxsize=200)
def _redactor(keys: tuple[str, ...]) -> Redactor:
    redact = Redactor()
    for one in keys:
        redact.remember(one)
    return redact


def check_redaction(given: dict[str, Any]) -> None:
    """No remembered key comes through: not in a text, not in its one line, not in a line of the log."""
    keys = [one for one in given.get("keys", []) if len(one) >= 6 and one.isascii() and one.isprintable()]
    redact = _redactor(tuple(keys))
    for one in keys:
        shown = disguised(one, given.get("way", 0))
        told = given.get("before", "") + shown + given.get("after", "")
        masked = redact(told)
        for text in (masked, one_line(masked, 1000), redact(json.dumps({"detail": told})), redact(repr(told))):
            bare = text.replace("[redacted]", "\x00").lower()
            assert shown.lower() not in bare, "a key came through in disguise"
            assert one.lower() not in bare, "a key came through"


_NAMES = (
    "DEVIN_API_URL", "API_KEY_SECRET_ARN", "WORK_QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "DRY_RUN", "MAX_WORKERS",
    "DEVIN_ORG_ID", "ARCHIVE", "RETRY_BASE_SECONDS", "STOP_SWITCH_PARAMETER", "PUBLISH_OUTCOMES", "PROTECT_TAG",
    "ANNOUNCEMENTS_TABLE",
)  # fmt: skip
_GOOD = {"API_KEY_SECRET_ARN": "arn", "WORK_QUEUE_URL": "work", "DEAD_LETTER_QUEUE_URL": "dead"}
_HOSTS = (
    "api.devin.ai", "localhost", "LOCALHOST", "127.0.0.1", "127.1", "127.0.0.1.evil.example", "2130706433", "0x7f.1",
    "[::1]", "[::ffff:127.0.0.1]", "[::1%25lo]", "[fe80::1]", "evil.example", "0", "[::]", "localhost.", "",
    "localhost%2eevil.example", "[::1]evil.example", "evil.example[::1]",
)  # fmt: skip


def environment(rng: Random) -> dict[str, str]:
    """Variables as a stack, or somebody in a hurry, may set them."""
    made: dict[str, str] = dict(_GOOD)
    for _ in range(rng.randrange(3)):
        made[rng.choice(_NAMES)] = rng.choice(("", "true", "FALSE", "yes", "7", "007", "65", "-1", sources.text(rng)))
    if rng.randrange(2):
        userinfo = rng.choice(("", "", "", "user@", "localhost@", "localhost\\@", "a:b@"))
        rest = rng.choice(
            ("", "", ":80", ":", ":x", "/", "/base/", "\\", "\\evil.example", "?q", "#f", "/%2e%2e", "//")
        )
        url = rng.choice(("http", "http", "https", "HTTP", "ftp")) + "://" + userinfo + rng.choice(_HOSTS) + rest
        made["DEVIN_API_URL"] = url if rng.randrange(3) else sources.mutated_text(rng, url)
    return made


def check_settings(given: dict[str, str]) -> None:
    """Settings are safe, or refused with the name of a variable that was set, or had to be."""
    try:
        found = Settings.from_environment(given)
    except SettingsError as error:
        named = next(name for name in _NAMES if str(error).startswith(name))
        assert given.get(named, "") or named in _GOOD
        return
    assert all(given[name] for name in _GOOD)
    assert 1 <= found.max_workers <= 64
    assert 1 <= found.retry_base_seconds <= 300
    assert found.dry_run == (given.get("DRY_RUN", "").lower() in {"true", "1"})
    assert found.devin_org_id is None or re.fullmatch(r"[\w-]{1,128}", found.devin_org_id, re.ASCII)
    assert found.protect_tag
    # Who will connect reads the address with another parser.
    url = parse_url(found.devin_api_url + "/v1/sessions/devin-a")
    assert url.host
    assert url.auth is None
    assert url.path is not None
    assert url.path.endswith("/v1/sessions/devin-a")
    assert url.query is url.fragment is None
    if url.scheme != "https":
        assert url.scheme == "http"
        assert url.host == "localhost" or url.host.startswith(("127.", "[::1", "[::ffff:127.")), (
            "the key goes out in clear"
        )


_DURATIONS = (
    "PT1H",
    "P3D",
    "P1W",
    "PT59M",
    "P10000D",
    "PT",
    "P",
    "P1Y",
    "-P1D",
    "P1DT1H",
    "PT3600S",
    "P\u0663D",
    "pt1h",
)


def policy(rng: Random) -> Any:
    """A policy as its author may write it."""
    if not rng.randrange(8):
        return sources.json_value(rng)
    values: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(("idle_for", "older_than", "notify_first"), _DURATIONS),
        **dict.fromkeys(
            ("statuses", "tags", "without_tags", "users", "exclude_users"),
            (["a"], ["a", "b"], [], "a", [""], [1], [" a"]),
        ),
        "title_matches": ("nightly*", "*", "", "^a", ".*", "a" * 201, "[", 1),
        **dict.fromkeys(("has_pull_request", "dry_run"), (True, False, 0, "false", None)),
        "min_acus": (1, 0.5, 0, -1, 1e7, "1", True, float("nan"), float("inf"), 10**400),
        "max_sessions": (1, 10_000, 10_001, 0, 1.0, True, "5"),
        "max_share": (0.1, 1, 1.1, 0, -1, float("nan"), True),
    }
    chosen = rng.sample(list(values), rng.randrange(5))
    made = {name: rng.choice(values[name]) if rng.randrange(6) else sources.json_value(rng, 1) for name in chosen}
    return sources.shaken(rng, made) if not rng.randrange(4) else made


def check_policy(given: Any) -> None:
    """A policy does what it says and is bounded, or is refused."""
    try:
        found = parse_policy(given)
    except PolicyError:
        return
    assert given.keys() <= {*CRITERIA, "dry_run", "max_sessions", "max_share", "notify_first"}
    assert given.keys() & CRITERIA.keys(), "no criterion"
    assert found.dry_run is given.get("dry_run", True)
    assert 1 <= found.max_sessions <= 10_000
    assert 0 < found.max_share <= 1
    for least in (found.idle_for, found.older_than, found.notify_first):
        assert least is None or FLOOR <= least <= timedelta(days=3650)
    for name in given.keys() & CRITERIA.keys():
        assert getattr(found, name) not in (None, ()), "a criterion that was given is not asked for"
    limits = {"dry_run": False, "max_sessions": 1, "max_share": 1}
    assert fingerprint(parse_policy(given | limits)) == fingerprint(found)
    assert isinstance(found, Policy)


TARGETS = (
    Target("secret", secret, check_secret),
    Target("redaction", leak, check_redaction, weight=2),
    Target("settings", environment, check_settings, weight=2),
    Target("policy", policy, check_policy, weight=2),
)

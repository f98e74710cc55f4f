"""The Devin API as `doctor` checks it: whose key it is, whether it may list, and whether this version will go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from devin.client import error_detail, parse_json
from devin.http import Reply, Transport, TransportError
from devin.version import V3, version_of
from infra.ops.findings import Finding, failed, ok, warning
from infra.ops.problems import FoundError
from infra.ops.snapshot import StackSnapshot
from infra.ops.sweeps import sweep
from infra.ops.switch import read_switch
from redaction import Redactor, one_line

# As the sweep, which refuses to compute ages beyond it.
MOST_SKEW_SECONDS = 300.0
_PROBE_SECONDS = 10.0
_PROBE_BYTES = 64 * 1024
_ADDRESSES = (
    "https://api.devin.ai; of a dedicated deployment https://<company>.devinenterprise.com/api or "
    "https://api.devinenterprise.com"
)
_PERMISSIONS = "ViewOrgSessions to list and read, ManageOrgSessions to terminate and archive"
# Chooses nothing, and is dry.
_NOTHING = {"tags": ["devin-ops doctor: no session has this tag"], "idle_for": "P365D", "dry_run": True}


def check_api(stack: StackSnapshot) -> Iterator[Finding]:
    """Two harmless reads from this machine. Raises what reading the settings and the key raises."""
    settings, key = stack.settings, stack.key
    address, version = settings.devin_api_url, version_of(key)
    if found := re.search(r"/v[0-9]+$", address):
        yield failed(
            "api",
            f"DevinApiUrl {address} ends in {found[0]}, which the functions add themselves",
            f"deploy DevinApiUrl={address.removesuffix(found[0])}",
        )
        return
    if version is V3 and settings.devin_org_id is None:
        yield warning("api", "not called: there is no organisation to ask for", "deploy DevinOrgId")
        return
    transport, redact = Transport(address), Redactor()
    redact.remember(key)

    def get(path: str, params: dict[str, str] | None) -> Reply:
        return transport.request("GET", path, key=key, params=params, seconds=_PROBE_SECONDS, keep_bytes=_PROBE_BYTES)

    path = version.sessions_path.format(org_id=settings.devin_org_id)
    one = {name: "1" if name in {"first", "limit"} else value for name, value in version.page_query(None).items()}
    where = f"GET {address}{path} from this machine (the functions call from AWS)"
    try:
        if version is V3:
            yield from _owner(get("/v3/self", None), settings.devin_org_id or "", redact)
        reply = get(path, one)
    except TransportError as error:
        yield failed("api", f"{where}: {error}", f"check the network and DevinApiUrl: {_ADDRESSES}")
        return
    yield _answer(reply, where, redact, is_v3=version is V3)
    yield from _retirement(reply)
    yield from _clock(reply, stack.now())


def _owner(reply: Reply, org_id: str, redact: Redactor) -> Iterator[Finding]:
    """Whose key it is. The listing shows what it may do."""
    owned_by: Any = parse_json(reply.body) if 200 <= reply.status < 300 else None
    if not isinstance(owned_by, dict):
        return
    names = [str(owned_by[name]) for name in ("service_user_name", "user_name", "user_email") if owned_by.get(name)]
    owner = one_line(redact(" ".join([str(owned_by.get("principal_type", "unknown")), *names])), 200)
    theirs = owned_by.get("org_id")
    if theirs and _bare(str(theirs)) != _bare(org_id):
        yield failed(
            "key's owner",
            f"{owner} of organisation {one_line(redact(str(theirs)), 100)}; DevinOrgId is {org_id}",
            "store a key of this organisation, or deploy its DevinOrgId",
        )
    else:
        yield ok("key's owner", f"{owner}, {f'organisation {org_id}' if theirs else 'enterprise'}")


def _bare(org_id: str) -> str:
    return re.sub(r"^org[-_]", "", org_id)


def _answer(reply: Reply, where: str, redact: Redactor, *, is_v3: bool) -> Finding:
    detail = one_line(redact(error_detail(reply.body) or "no explanation"), 200)
    found = f"{where}: {reply.status}"
    rotate = f"store a valid key (README, Rotate the key) with the permissions it needs: {_PERMISSIONS}"
    match reply.status:
        case status if 200 <= status < 300:
            more = "; ManageOrgSessions cannot be checked without ending a session" if is_v3 else ""
            return ok("api", f"{found}; the key is valid and may list{more}")
        case 401 if is_v3:
            return failed(
                "api",
                f"{found}: {detail}: the key is wrong, or this address is not on the enterprise's IP access list",
                f"{rotate}; or have this address, and those that AWS calls from, added to the list",
            )
        case 401:
            return failed("api", f"{found}: {detail}", "store a valid key: README, Rotate the key")
        case 403:
            return failed("api", f"{found}: {detail}: the key is wrong or lacks a permission", rotate)
        case 404 | 410:
            return failed(
                "api",
                f"{found}: this version of the API is switched off, or the address or organisation is wrong: {detail}",
                f"check DevinOrgId and DevinApiUrl ({_ADDRESSES}); go to version 3 with a cog_ key",
            )
        case 429:
            return warning("api", f"{found}: the API is being asked too often", "try again in a minute")
        case _:
            return failed("api", f"{found}: {detail}", "check the API's status page")


def _retirement(reply: Reply) -> Iterator[Finding]:
    """RFC 8594 and RFC 9745."""
    if announced := {name: reply.headers[name] for name in ("Sunset", "Deprecation") if name in reply.headers}:
        headers = ", ".join(f"{name}: {one_line(value, 60)}" for name, value in announced.items())
        yield warning("api version", f"the API announces its end: {headers}", "go to version 3: README, Deploy it")
    elif 200 <= reply.status < 300:
        yield ok("api version", "the API does not announce its end")


def _clock(reply: Reply, now: datetime) -> Iterator[Finding]:
    if (skew := skew_seconds(reply.headers.get("Date"), now)) is None:
        return
    if skew > MOST_SKEW_SECONDS:
        yield failed(
            "clock",
            f"the API's clock and this machine's differ by {skew:.0f} s",
            "set this machine's clock; if it is right, sweeps refuse to compute ages until the API's is",
        )
    else:
        yield ok("clock", f"the API's clock is within {skew:.0f} s of this machine's")


def skew_seconds(date: str | None, now: datetime) -> float | None:
    """Between a Date header and this machine; None if it says none."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - now).total_seconds())


def check_from_aws(stack: StackSnapshot) -> Iterator[Finding]:
    """Ask the sweep function to list from where it runs, with a policy that chooses nothing and is dry."""
    if not read_switch(stack.account.ssm, stack.deployment.output("StopSwitchParameterName")).goes:
        yield warning("api from AWS", "not asked: the stop switch is on", f"{stack.command} go, then")
        return
    try:
        report = sweep(stack.account.invoker, stack.deployment.output("SweepFunctionName"), _NOTHING)
    except FoundError as error:
        yield failed(
            "api from AWS",
            str(error),
            f"a 401 or 403: {_PERMISSIONS}, and AWS's addresses on the enterprise's IP access list; else its log",
        )
        return
    yield ok("api from AWS", f"the sweep function listed {report['listed']} sessions ({report['listing']})")

"""The Devin API as `doctor` checks it: whose key it is, whether it may list, and whether this version will go."""

import re
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from devin.client import error_detail, parse_json
from devin.http import Reply, Transport, TransportError
from devin.version import V3, version_of
from infra.ops.cli_context import utc_now
from infra.ops.problems import FoundError
from infra.ops.snapshot import Finding, StackSnapshot, failed, ok, verdict, warning
from infra.ops.sweeps import sweep
from redaction import Redactor, one_line

# As the sweep, which refuses to compute ages beyond it.
_MOST_SKEW_SECONDS = 300.0
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
    if version is V3 and settings.devin_org_id is None:
        return  # there is no organisation to ask for; see the check `secret`
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
    yield _answer(reply, where, redact)
    yield from _retirement(reply)
    yield from _clock(reply)


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


def _answer(reply: Reply, where: str, redact: Redactor) -> Finding:
    found, detail = f"{where}: {reply.status}", one_line(redact(error_detail(reply.body) or "no explanation"), 200)
    rotate = f"store a valid key (README, Rotate the key) with the permissions it needs: {_PERMISSIONS}"
    match reply.status:
        case status if 200 <= status < 300:
            return ok("api", f"{found}; the key is valid and may list (that it may terminate cannot be checked)")
        case 401:
            why = "the key is wrong, or this address is not on the enterprise's IP access list"
            remedy = f"{rotate}; or have this address, and those that AWS calls from, added to the list"
        case 403:
            why, remedy = "the key is wrong or lacks a permission", rotate
        case 404 | 410:
            why = "this version of the API is switched off, or the address or organisation is wrong"
            remedy = f"check DevinOrgId and DevinApiUrl ({_ADDRESSES}); go to version 3 with a cog_ key"
        case 429:
            return warning("api", f"{found}: the API is being asked too often", "try again in a minute")
        case _:
            why, remedy = "no answer to rely on", "check the API's status page"
    return failed("api", f"{found}: {detail}: {why}", remedy)


def _retirement(reply: Reply) -> Iterator[Finding]:
    """RFC 8594 and RFC 9745."""
    if announced := {name: reply.headers[name] for name in ("Sunset", "Deprecation") if name in reply.headers}:
        headers = ", ".join(f"{name}: {one_line(value, 60)}" for name, value in announced.items())
        yield warning("api version", f"the API announces its end: {headers}", "go to version 3: README, Deploy it")
    elif 200 <= reply.status < 300:
        yield ok("api version", "the API does not announce its end")


def _clock(reply: Reply) -> Iterator[Finding]:
    if (skew := skew_seconds(reply.headers.get("Date"))) is None:
        return
    found = f"the API's clock and this machine's differ by {skew:.0f} s"
    remedy = "set this machine's clock; if it is right, sweeps refuse to compute ages until the API's is"
    yield verdict("clock", good=skew <= _MOST_SKEW_SECONDS, found=found, remedy=remedy)


def skew_seconds(date: str | None) -> float | None:
    """Between a Date header and this machine; None if it says none."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - utc_now()).total_seconds())


def check_from_aws(stack: StackSnapshot) -> Iterator[Finding]:
    """Ask the sweep function to list from where it runs, with a policy that chooses nothing and is dry."""
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

"""The same over https: what encryption adds to an id, and handshakes to a first invocation."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from infra.environments import ENVIRONMENTS
from infra.local import certificate
from tests.bench.fleet import (
    CONTENDERS,
    FIRST_PEER,
    LIMIT,
    OURS,
    SEQUENTIAL,
    WORKERS,
    Contender,
    Server,
    Spread,
    Took,
    work,
)
from tests.bench.result import Goal, Section, Table

SCHEMES = ("http", "https")
# A call each, as in a default batch; every contender's workers have to connect.
FIRST_IDS = 10
# Ours and requests trust certifi's file of authorities: here it names another, in which there is one more.
_CERTIFI = """\
def where():
    return {authorities!r}
"""


def _trusted(directory: Path, authority: Path) -> Mapping[str, str]:
    """Variables with which every client trusts an authority, beside all those that it has to read anyway."""
    (known,) = ENVIRONMENTS["bench"].path.glob("lib/python3.*/site-packages/certifi/cacert.pem")
    authorities = directory / "authorities.pem"
    authorities.write_text(known.read_text() + authority.read_text())
    (directory / "certifi.py").write_text(_CERTIFI.format(authorities=str(authorities)))
    return {"SSL_CERT_FILE": str(authorities), "PYTHONPATH": str(directory)}


def _first(tooks: Sequence[Took]) -> list[str]:
    """Time and CPU."""
    return [
        Spread.of([took.wall for took in tooks]).told(1000),
        Spread.of([took.cpu for took in tooks]).told(1000),
    ]


def measure(server: Server, *, quick: bool) -> Section:
    """CPU per id over kept connections, and first invocations of fresh processes, by scheme."""
    ids, repeats, starts = (50, 2, 1) if quick else (200, 5, 3)
    behaviour = "fixed-20-0"
    per_id: dict[tuple[str, str], list[float]] = {}
    first: dict[tuple[str, str], list[Took]] = {}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        issued = certificate.issue(scratch)
        trusted = _trusted(scratch, issued.authority)
        apis = {"http": server, "https": stack.enter_context(Server(issued))}
        # AWS answers over http in both cases, so that they differ in the API alone.
        aws = server.environment(behaviour)
        found = {"PYTHONPATH": f"{trusted['PYTHONPATH']}:{aws['PYTHONPATH']}"}
        variables = {
            scheme: {**aws, **trusted, **found, "DEVIN_API_URL": api.url(behaviour)} for scheme, api in apis.items()
        }
        for _ in range(starts):
            for name in (OURS, FIRST_PEER, LIMIT):
                for scheme, api in apis.items():
                    with Contender(CONTENDERS[name], variables[scheme]) as fresh:
                        first.setdefault((name, scheme), []).append(work(api, fresh, ids=FIRST_IDS))
        running = {
            (name, scheme): stack.enter_context(Contender(module, variables[scheme]))
            for name, module in CONTENDERS.items()
            for scheme in SCHEMES
        }
        for (_, scheme), contender in running.items():
            contender.at(apis[scheme].url(behaviour))
        for _ in range(repeats):
            for (name, scheme), contender in running.items():
                share = ids // WORKERS if name in SEQUENTIAL else ids
                took = work(apis[scheme], contender, ids=share)
                per_id.setdefault((name, scheme), []).append(took.cpu / share * 1000)
    spreads = {key: Spread.of(values) for key, values in per_id.items()}
    ratio = spreads[OURS, "https"].median / spreads[LIMIT, "https"].median
    return Section(
        "Over TLS",
        [
            (
                "All other chapters speak plain http on loopback, so that no cipher is measured with what they are "
                "about. The real API speaks https. Here it does too (TLS 1.3, ECDSA; an authority more in certifi's "
                "file), with AWS still over http. CPU per id: connections are kept, but for those of "
                f"`requests.delete`; API of 20 ms, {repeats} batches of {ids} ids, {ids // WORKERS} for those that "
                f"call one after the other. First invocation: {starts} fresh processes that have imported their "
                f"handler, {FIRST_IDS} ids, and so a handshake for each worker. This project made its TLS context "
                "while it was imported, and shares it between its connections."
            ),
        ],
        [
            Table(
                "CPU per id, ms",
                ["contender", "http", "https", "more", "https / urllib3 over https"],
                [
                    [
                        name,
                        *(spreads[name, scheme].told(1, 3) for scheme in SCHEMES),
                        f"{spreads[name, 'https'].median - spreads[name, 'http'].median:+.3f}",
                        f"{spreads[name, 'https'].median / spreads[LIMIT, 'https'].median:.2f}",
                    ]
                    for name in CONTENDERS
                ],
            ),
            Table(
                f"First invocation, {FIRST_IDS} ids, ms",
                ["contender", *(f"{what}, {scheme}" for scheme in SCHEMES for what in ("time", "CPU"))],
                [
                    [name, *(cell for scheme in SCHEMES for cell in _first(first[name, scheme]))]
                    for name in (OURS, FIRST_PEER, LIMIT)
                ],
            ),
        ],
        [Goal.at_most("CPU per id at 20 ms over TLS", 1.5, "bare urllib3 over TLS", ratio)],
    )

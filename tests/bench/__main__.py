"""`make bench`: measures, prints, and writes docs/performance.md."""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from infra.environments import ROOT
from infra.local import build, certificate
from tests.bench.bill import API_SECONDS, COLD_EVERY, million
from tests.bench.measure import instructions, subjects, times
from tests.bench.server import Server
from tests.template.test_costs import idle_month

IDS = 100
PEER, CLIENTS, BARE = "BatchProcessor + Session", "boto3 + the same three clients", "bare urllib3 threads"
INTRODUCTION = """\
# Performance

Written by `make bench`; do not edit. It takes about ten minutes and needs valgrind (`apt-get install valgrind`).

Instructions are counted by `valgrind --tool=callgrind` on the built artefact: they vary by a few per cent from run to
run, whatever else the machine does, where times vary by a third. The API and AWS are local servers; over TLS, with a
CA bundle of real size."""


def table(title: str, text: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join([f"## {title}\n\n{text}\n", *(f"| {' | '.join(cells)} |" for cells in (head, line, *rows))])


def machine() -> str:
    """Which code, which machine."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].partition(": ")[2] if names else platform.machine()
    return f"commit {commit} on {os.cpu_count()} x {cpu}, Python {platform.python_version()}"


def main() -> int:
    """A goal that is not met is reported, and is no failure: this is no test."""
    if shutil.which("valgrind") is None:
        sys.stderr.write("make bench needs valgrind: apt-get install valgrind\n")
        return 1
    build.build()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        issued = certificate.issue(scratch)
        ours, peer, clients, bare = subjects(build.FUNCTIONS, issued.authority, scratch)
        zipped = Path(shutil.make_archive(str(scratch / "artefact"), "zip", build.FUNCTIONS)).stat().st_size
        with Server(issued) as secure:
            init = {one: instructions(secure, one) for one in (ours, peer, clients)}
            ended = {one: instructions(secure, one, [1]) for one in (ours, peer)}
            rejected = {one: instructions(secure, one, [10], 422) for one in (ours, peer)}
            times(secure, ours, [10], 422)
            connections = secure.connections.count("AmazonSQS")
        with Server() as plain:
            warm = {
                one: instructions(plain, one, [10, IDS]) - instructions(plain, one, [10]) for one in (ours, peer, bare)
            }
            runs = [times(plain, ours, [1] * 20) for _ in range(5)]
    # The import, then the first invocation: what follows is warm.
    cpu, logged = (statistics.mean(step[what] for run in runs for step in run[2:]) for what in ("cpu", "logged"))
    dollars = million(cpu, logged, statistics.mean(run[0]["wall"] for run in runs))
    dollars["all"] = sum(dollars.values())
    goals = {
        "ten rejected in a fresh environment: invocation, ours / peer": (
            0.50,
            (rejected[ours] - init[ours]) / (rejected[peer] - init[peer]),
        ),
        "ten rejected in a fresh environment: total, ours / peer": (0.80, rejected[ours] / rejected[peer]),
        "one ended in a fresh environment: total, ours / peer": (0.75, ended[ours] / ended[peer]),
        f"initialisation, ours / {CLIENTS}": (1.00, init[ours] / init[clients]),
        "new TLS connections to SQS in an invocation of ten rejected": (1, connections),
        f"warm, per id, ours / {BARE}": (1.70, warm[ours] / warm[bare]),
        f"warm, per id, ours / {PEER}": (0.70, warm[ours] / warm[peer]),
        "artefact, zipped, MB": (7, zipped / 1e6),
        "fixed costs of an idle month with default parameters, USD": (4, idle_month()),
        "a million ids one by one, list prices, USD": (3, dollars["all"]),
    }
    counted = {
        "initialisation": init,
        "initialisation, then one ended": ended,
        "initialisation, then ten rejected (422)": rejected,
        f"{IDS} more ended": warm,
    }
    tables = [
        table(
            "Goals",
            f"Measured {datetime.now(UTC):%Y-%m-%d} at {machine()}.",
            ["", "at most", "measured", ""],
            [
                [name, f"{most:,.2f}", f"{measured:,.2f}", "met" if measured <= most else "**not met**"]
                for name, (most, measured) in goals.items()
            ],
        ),
        table(
            "Millions of instructions",
            f"Over TLS; the {IDS} over http, in a process that has worked, with ten workers but for the peer. The "
            "peer is Powertools' `parameters` and `BatchProcessor` with a `requests.Session` and a `send_message` per "
            "422, on an untouched install of the same requirements.",
            ["", "ours", PEER, CLIENTS, BARE],
            [
                [name, *(f"{numbers[one] / 1e6:,.0f}" if one in numbers else "" for one in (ours, peer, clients, bare))]
                for name, numbers in counted.items()
            ],
        ),
        table(
            "A million ids, one by one",
            f"US dollars at list prices (`tests/bench/prices.json`), without free tiers and without tracing, which "
            f"would add 5.00. An API that takes {API_SECONDS * 1000:.0f} ms, {cpu * 1000:.1f} ms of CPU stretched to "
            f"Lambda's share, {logged:.0f} bytes of log; one invocation in {COLD_EVERY} starts an environment.",
            ["", "USD"],
            [[name, f"{one:.2f}"] for name, one in dollars.items()],
        ),
    ]
    text = "\n\n".join([INTRODUCTION, *tables]) + "\n"
    sys.stdout.write(text)
    (ROOT / "docs" / "performance.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: measures, prints, and writes docs/performance.md."""

from __future__ import annotations

import io
import shutil
import statistics
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from infra.local import build, certificate
from tests.bench.bill import API_SECONDS, COLD_EVERY, million
from tests.bench.measure import Bench, Server, Subject, ours, peer, trust
from tests.bench.report import DOCUMENT, Goal, Table, document
from tests.template.test_costs import idle_month

CASES = {"one ended": ([1], 200), "ten ended": ([10], 200), "ten rejected (422)": ([10], 422)}
IDS = 100
REPEATS = 5
PEER, CLIENTS, BARE = "BatchProcessor + Session", "boto3 + the same three clients", "bare urllib3 threads"


def fresh(bench: Bench, subject: Subject, peers: dict[str, Subject]) -> tuple[list[Goal], list[Table]]:
    """A fresh environment: initialisation and one invocation, over TLS."""
    clients, other = peers[CLIENTS], peers[PEER]
    init = {one.name: bench.instructions(one) for one in (subject, other, clients)}
    rows, ratios = [], {}
    for name, (batches, status) in CASES.items():
        total = {one.name: bench.instructions(one, batches, status) for one in (subject, other)}
        mine, theirs = (total[one.name] - init[one.name] for one in (subject, other))
        ratios[name] = mine / theirs, total[subject.name] / total[other.name]
        times = {
            one.name: statistics.median(
                sum(step["cpu"] for step in bench.times(one, batches, status)) for _ in range(REPEATS)
            )
            for one in (subject, other)
        }
        rows.append(
            [
                name,
                f"{init[subject.name] / 1e6:,.0f} + {mine / 1e6:,.0f}",
                f"{init[other.name] / 1e6:,.0f} + {theirs / 1e6:,.0f}",
                f"{ratios[name][0]:.2f}",
                f"{ratios[name][1]:.2f}",
                f"{times[subject.name] * 1000:,.0f}",
                f"{times[other.name] * 1000:,.0f}",
            ]
        )
    rejected = ratios["ten rejected (422)"]
    return [
        Goal("ten rejected in a fresh environment: invocation, ours / peer", 0.50, rejected[0]),
        Goal("ten rejected in a fresh environment: total, ours / peer", 0.80, rejected[1]),
        Goal("one ended in a fresh environment: total, ours / peer", 0.75, ratios["one ended"][1]),
        Goal(f"initialisation, ours / {CLIENTS}", 1.00, init[subject.name] / init[CLIENTS]),
    ], [
        Table(
            "A fresh environment",
            f"Millions of instructions over TLS, and milliseconds of CPU (median of {REPEATS}). The peer is "
            "Powertools' `parameters` and `BatchProcessor` with a `requests.Session` and a `send_message` per 422, "
            f"on an untouched install of the same requirements. {CLIENTS}: {init[CLIENTS] / 1e6:,.0f}.",
            ["", "ours: init + invocation", "the peer", "invocation, ours / peer", "total", "ours, ms", "peer, ms"],
            rows,
        )
    ]


def connections(bench: Bench, subject: Subject) -> Goal:
    bench.times(subject, *CASES["ten rejected (422)"])
    return Goal(
        "new TLS connections to SQS in an invocation of ten rejected", 1, bench.last_counts["connections AmazonSQS"]
    )


def warm(bench: Bench, subjects: list[Subject]) -> tuple[list[Goal], list[Table]]:
    """What one more id costs a process that has worked already, over plain http."""
    each, rows = {}, []
    for one in subjects:
        each[one.name] = (bench.instructions(one, [10, IDS]) - bench.instructions(one, [10])) / IDS
        cpu = statistics.median(bench.times(one, [10, IDS])[2]["cpu"] for _ in range(REPEATS)) / IDS
        rows.append([one.name, f"{each[one.name] / 1e6:.2f}", f"{cpu * 1000:.2f}"])
    mine = each[subjects[0].name]
    return [
        Goal(f"warm, per id, ours / {BARE}", 1.70, mine / each[BARE]),
        Goal(f"warm, per id, ours / {PEER}", 0.70, mine / each[PEER]),
    ], [
        Table(
            "A warm environment",
            f"For each of {IDS} ids of a batch, over plain http, with ten workers but for {PEER}.",
            ["", "millions of instructions", "CPU, ms"],
            rows,
        )
    ]


def artefact(place: Path) -> tuple[list[Goal], list[Table]]:
    unpacked, zipped = Counter[str](), Counter[str]()
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(one for one in place.rglob("*") if one.is_file()):
            relative = path.relative_to(place)
            archive.write(path, relative)
            top = relative.parts[0].split("-")[0] if len(relative.parts) > 1 else "modules"
            unpacked[top] += path.stat().st_size
            zipped[top] += archive.getinfo(str(relative)).compress_size
    rows = [[name, f"{size / 2**20:.1f}", f"{zipped[name] / 2**20:.1f}"] for name, size in unpacked.most_common(6)]
    whole = zipped.total() / 1e6
    rows.append(["all", f"{unpacked.total() / 2**20:.1f}", f"{zipped.total() / 2**20:.1f}"])
    return [Goal("artefact, zipped, MB", 7, whole)], [Table("The artefact", "", ["", "MB", "MB zipped"], rows)]


def money(bench: Bench, subject: Subject) -> tuple[list[Goal], list[Table]]:
    steps = [bench.times(subject, [1] * 20) for _ in range(REPEATS)]
    cpu = statistics.mean(step["cpu"] for took in steps for step in took[2:])
    logged = statistics.mean(step["logged"] for took in steps for step in took[2:])
    parts = million(cpu, logged, statistics.mean(took[0]["wall"] for took in steps))
    total = sum(parts.values())
    idle = idle_month()
    return [
        Goal("fixed costs of an idle month with default parameters, USD", 4, idle),
        Goal("a million ids one by one, list prices, USD", 3, total),
    ], [
        Table(
            "A million ids, one by one",
            f"US dollars at list prices (`tests/bench/prices.json`), without free tiers and without tracing, which "
            f"would add 5.00. An API that takes {API_SECONDS * 1000:.0f} ms, {cpu * 1000:.1f} ms of CPU stretched to "
            f"Lambda's share, {logged:.0f} bytes of log; one invocation in {COLD_EVERY} starts an environment.",
            ["", "USD"],
            [[name, f"{dollars:.2f}"] for name, dollars in {**parts, "all": total}.items()],
        )
    ]


def main() -> int:
    """A goal that is not met is reported, and is no failure: this is no test."""
    if shutil.which("valgrind") is None:
        sys.stderr.write("make bench needs valgrind: apt-get install valgrind\n")
        return 1
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        build.build()
        built = build.FUNCTIONS
        issued = certificate.issue(scratch)
        trusted = trust(scratch, issued.authority)
        subject = ours(built, scratch)
        modules = {PEER: "batch_processor", CLIENTS: "three_clients", BARE: "bare_urllib3"}
        peers = {title: peer(title, module, scratch) for title, module in modules.items()}
        with Server(issued) as secure, Server() as plain:
            tls, http = Bench(secure, trusted), Bench(plain, trusted)
            parts = [
                fresh(tls, subject, peers),
                ([connections(tls, subject)], []),
                warm(http, [subject, peers[BARE], peers[PEER]]),
                artefact(built),
                money(http, subject),
            ]
    text = document([goal for goals, _ in parts for goal in goals], [table for _, tables in parts for table in tables])
    sys.stdout.write(text)
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

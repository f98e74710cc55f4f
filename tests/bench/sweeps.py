"""A sweep over many sessions: does its time, or its memory, grow faster than the number of pages?"""

from __future__ import annotations

from tests.bench.fleet import Contender, Server, Spread
from tests.bench.result import Goal, Section, Table

# Chooses one in seventeen, so that judging is done and the caps hold.
POLICY = {"idle_for": "P3D", "tags": ["team-3"], "statuses": ["blocked", "waiting_for_user"], "max_sessions": 10_000}
SECRETS = {"v1, pages of 100": "key", "v3, pages of 200": "key-of-v3"}


def measure(server: Server, *, quick: bool) -> Section:
    """Dry sweeps through the real handler, each in a fresh process."""
    sizes, repeats = ((500, 1000), 1) if quick else ((1000, 5000, 10_000), 3)
    rows, goals = [], []
    for version, secret in SECRETS.items():
        per_session: dict[int, float] = {}
        peaks: dict[int, int] = {}
        for size in sizes:
            walls, cpus, pages = [], [], 0
            environment = server.environment(f"list-{size}") | {"API_KEY_SECRET_ARN": secret}
            for _ in range(repeats):
                with Contender("sweep.handler", environment) as sweep:
                    # The first sweep makes our clients, and has the server make its pages.
                    sweep.invoke(event=POLICY)
                    took = sweep.invoke(event=POLICY)
                if took.answer["listed"] != size:
                    raise RuntimeError(f"a sweep listed {took.answer['listed']} of {size} sessions")
                walls.append(took.wall)
                cpus.append(took.cpu)
                pages = took.answer["pages"]
                peaks[size] = took.peak_kilobytes
            per_session[size] = Spread.of(cpus).median / size
            rows.append(
                [
                    f"{version}: {size:,}",
                    f"{pages}",
                    Spread.of(walls).told(1000),
                    f"{per_session[size] * 1e6:.0f}",
                    f"{peaks[size] / 1024:.0f}",
                ]
            )
        growth = per_session[sizes[-1]] / per_session[sizes[0]]
        goals += [
            Goal(
                f"sweep, {version}: CPU per session, {sizes[-1]:,} to {sizes[0]:,}",
                "does not grow (at most 1.10 x)",
                f"{growth:.2f} x",
                growth <= 1.10,
            ),
            Goal(
                f"sweep, {version}: peak memory, {sizes[-1]:,} sessions",
                "at most 100 MB",
                f"{peaks[sizes[-1]] / 1024:.0f} MB",
                peaks[sizes[-1]] <= 100 * 1024,
            ),
        ]
    return Section(
        "A sweep of many sessions",
        [
            (
                "The real `sweep` handler lists an organisation and judges each session against a policy with three "
                "criteria, dry, from an API without latency. A real page takes about a second, and pages come one "
                "after "
                "the other: add that to each."
            ),
        ],
        [Table("Listed and judged", ["sessions", "pages", "ms", "CPU µs per session", "peak MB"], rows)],
        goals,
    )

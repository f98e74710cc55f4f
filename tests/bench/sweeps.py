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
            walls, cpus, pages, peaks[size] = [], [], 0, 0
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
                peaks[size] = max(peaks[size], took.peak_kilobytes)
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
        most, least = sizes[-1], sizes[0]
        compared = f"{most:,} to {least:,}"
        goals += [
            Goal.flat(f"sweep, {version}: CPU per session, {compared}", per_session[most] / per_session[least]),
            Goal.flat(f"sweep, {version}: peak memory, {compared}", peaks[most] / peaks[least]),
            Goal(
                f"sweep, {version}: peak memory, {most:,} sessions",
                "at most 100 MB",
                f"{peaks[most] / 1024:.0f} MB",
                peaks[most] <= 100 * 1024,
            ),
        ]
    return Section(
        "A sweep of many sessions",
        [
            (
                "The real `sweep` handler lists an organisation and judges each session against a policy with three "
                "criteria, dry, from an API without latency. A real page takes about a second, and pages come one "
                f"after the other: add that to each. {repeats} processes for each number of sessions; of their peaks "
                "the highest, most of which interpreter and imports take."
            ),
        ],
        [Table("Listed and judged", ["sessions", "pages", "ms", "CPU µs per session", "peak MB"], rows)],
        goals,
    )

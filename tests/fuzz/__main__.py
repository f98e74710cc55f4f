"""`python -m tests.fuzz`: fuzz the readers and the handler; says how much was tried, and what was found."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

# The functions import each other from here, as they do in Lambda.
sys.path.insert(0, str(Path(__file__).parents[2] / "functions"))


say = partial(print, flush=True)


def main() -> int:
    """Exit status: 1 if anything was found."""
    from tests.fuzz.campaign import run  # noqa: PLC0415 - only now can the functions be imported
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--inputs",
        type=int,
        default=1_000_000,
        help="for each of the parsers `body` and `event`, and as many for all others together (default: a million)",
    )
    parser.add_argument("--target", choices=["all", *TARGETS], action="append", help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: another one every time")
    parser.add_argument("--jobs", type=int, help="processes; default: one for each core")
    options = parser.parse_args()
    names = list(TARGETS) if "all" in (options.target or ["all"]) else options.target
    started, inputs, findings = time.monotonic(), 0, 0
    say(f"seed {options.seed}")
    for name, tally in run(names, options.inputs, options.seed, options.jobs):
        inputs += tally.inputs
        findings += len(tally.findings)
        rate = tally.inputs / max(tally.seconds, 0.001)
        say(f"{name:14} {tally.inputs:9,} inputs {rate:9,.0f}/s a core {len(tally.findings):3} findings")
        for finding in tally.findings.values():
            say(f"  {finding}")
    took = time.monotonic() - started
    rate = inputs / max(took, 0.001)
    total = f"{'in all':14} {inputs:9,} inputs {rate:9,.0f}/s        {findings:3} findings"
    say(f"{total} in {took:.0f} s, seed {options.seed}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

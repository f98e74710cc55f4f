"""`python -m infra.local.fake_devin`: prints its address as the first line, and runs until SIGTERM or Ctrl-C."""

import argparse
import signal
from pathlib import Path

from infra.local.fake_devin.server import FakeDevin


def main() -> None:
    """Reads the arguments and serves."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.fake_devin", description="A fake of the Devin API.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--key", action="append", metavar="KEY", help="a valid key, made up; default: any (repeatable)")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="speak TLS with this certificate")
    parser.add_argument("--private-key", type=Path, metavar="PEM", help="default: it is in the certificate's file")
    arguments = parser.parse_args()
    ends = {signal.SIGINT, signal.SIGTERM}
    # Before there are threads: they inherit the mask, and the signal waits for sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with FakeDevin(
        port=arguments.port,
        keys=arguments.key,
        certificate=arguments.certificate,
        private_key=arguments.private_key,
    ) as api:
        print(api.url, flush=True)
        signal.sigwait(ends)


if __name__ == "__main__":
    main()

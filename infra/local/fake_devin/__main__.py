"""`python -m infra.local.fake_devin [port]`: prints its address as the first line, and runs until Ctrl-C or SIGTERM."""

import signal
import sys

from infra.local.fake_devin.server import FakeDevin

if __name__ == "__main__":
    ends = {signal.SIGINT, signal.SIGTERM}
    # Before there are threads: they inherit the mask, and the signal waits for sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with FakeDevin(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as api:
        print(api.url, flush=True)
        signal.sigwait(ends)

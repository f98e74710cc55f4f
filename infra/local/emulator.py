"""AWS on this machine: ministack, as strict as AWS about permissions and TLS."""

import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import venv
from dataclasses import dataclass
from pathlib import Path

from infra.environments import ENVIRONMENTS
from infra.local.certificate import Certificate
from infra.local.processes import ProcessFailedError, ProcessGroup, tail

REGION = "us-east-1"
# The emulator knows these as the account's root user; they are worth nothing elsewhere.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@dataclass(frozen=True)
class Emulator:
    """A running emulator: where it listens and what makes its certificate trusted."""

    endpoint_url: str
    ca_bundle: Path
    log: Path
    process: subprocess.Popen[bytes]

    def wait_until_ready(self, seconds: float = 30) -> None:
        """Raises ProcessFailedError if the emulator ends instead, or does not answer in time."""
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # loopback
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca_bundle))),
        )
        deadline = time.monotonic() + seconds
        while True:
            try:
                opener.open(f"{self.endpoint_url}/_ministack/health", timeout=5).close()
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise ProcessFailedError(
                        f"the emulator did not start: {error}\n{tail(self.log)}\n(whole log: {self.log})"
                    ) from error
                time.sleep(0.05)
            else:
                return


def start(group: ProcessGroup, directory: Path, certificate: Certificate) -> Emulator:
    """Start an emulator with empty state on a free port; it is ready after `wait_until_ready`."""
    packages = next((ENVIRONMENTS["emulator"].path / "lib").glob("python3.*/site-packages"))
    interpreter = directory / "python"
    venv.EnvBuilder(symlinks=True).create(interpreter)
    for name in ("scratch", "home"):
        (directory / name).mkdir()
    log = directory / "emulator.log"
    # The socket is bound here and handed over, so that no one else takes the port in between.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # Functions inherit it, so it holds nothing of this process's own.
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": f"{directory}/home",
            "TMPDIR": f"{directory}/scratch",
            "LANG": "C.UTF-8",
            "TZ": ":UTC",  # as Lambda sets it
            **CREDENTIALS,
            "AWS_CA_BUNDLE": str(certificate.authority),
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(certificate.chain),
            "MINISTACK_SSL_KEY": str(certificate.key),
            "MINISTACK_REGION": REGION,
            "GATEWAY_PORT": str(port),
            # Lambda repeats an asynchronous invocation after a minute, and after two.
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.2",
            # In the addresses of queues. By its number, because a host may look for `localhost` under ::1 first.
            "MINISTACK_HOST": "127.0.0.1",
            # Listeners on ports of their own, and containers: nothing here needs them.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{directory}/no-docker.sock",
            "STATE_DIR": f"{directory}/state",
            "S3_DATA_DIR": f"{directory}/s3",
        }
        process = group.start(
            [
                interpreter / "bin" / "python",
                Path(__file__).with_name("emulator_server.py"),
                packages,
                "ministack.app:app",
                # Zero workers means: in this process, instead of one forked from it.
                *("--workers", "0", "--bind", f"fd://{listener.fileno()}", "--keep-alive", "75"),
                *("--certfile", certificate.chain, "--keyfile", certificate.key),
            ],
            env=environment,
            cwd=directory,
            log=log,
            pass_fds=[listener.fileno()],
        )
    return Emulator(f"https://127.0.0.1:{port}", certificate.authority, log, process)

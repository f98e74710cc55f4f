"""AWS on this machine: ministack, as strict as AWS about permissions and TLS."""

import socket
import venv
from pathlib import Path

from infra.environments import ENVIRONMENTS
from infra.local.certificate import Certificate
from infra.local.processes import ProcessGroup

REGION = "us-east-1"
# The emulator knows these as the account's root user; they are worth nothing elsewhere.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def start(group: ProcessGroup, directory: Path, certificate: Certificate) -> str:
    """Start an emulator with empty state on a free port; return its address.

    The socket is bound here and handed over, so that no one else takes the port in between. It listens already: who
    connects waits until the emulator serves it, and is refused if the emulator ends.
    """
    packages = next((ENVIRONMENTS["emulator"].path / "lib").glob("python3.*/site-packages"))
    interpreter = directory / "python"
    venv.EnvBuilder(symlinks=True).create(interpreter)
    for name in ("scratch", "home"):
        (directory / name).mkdir()
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
        group.start(
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
            log=directory / "emulator.log",
            pass_fds=[listener.fileno()],
        )
    return f"https://127.0.0.1:{port}"

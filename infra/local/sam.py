"""SAM CLI, kept from what the shell may carry: `python -m infra.local.sam build`."""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from infra.environments import ENVIRONMENTS, ROOT, clean_environment
from infra.local import overlay
from infra.local.emulator import CREDENTIALS, REGION
from infra.local.processes import ProcessGroup

SAM = ENVIRONMENTS["sam"].path / "bin" / "sam"
BUILD = ROOT / ".aws-sam" / "build"
# What is deployed here.
TEMPLATE = BUILD / overlay.NAME
# In the build directory, which every other `sam build` empties: so it never vouches for someone else's build.
FINGERPRINT = BUILD / ".fingerprint"
# The build itself needs no account.
OFFLINE = {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION}


def environment(aws: Mapping[str, str]) -> dict[str, str]:
    """The variables SAM CLI runs with: settings of mirrors and proxies stay, everything of another AWS account goes."""
    clean = {name: value for name, value in clean_environment().items() if not name.startswith(("AWS_", "SAM_CLI_"))}
    # `sam build` wants a python3.13 with pip as the first on PATH.
    clean["PATH"] = os.pathsep.join([str(ENVIRONMENTS["dev"].path / "bin"), clean.get("PATH", os.defpath)])
    # No proxy for the emulator; a pip that installs from a mirror keeps its own.
    for name in ("NO_PROXY", "no_proxy"):
        clean[name] = ",".join(filter(None, ["127.0.0.1", "localhost", clean.get(name, "")]))
    return {
        **clean,
        **aws,
        "SAM_CLI_TELEMETRY": "0",
        # Its notes about itself, which else go to the user's home.
        "__SAM_CLI_APP_DIR": str(ENVIRONMENTS["sam"].path / "notes"),
        "SAM_CLI_CHECK_FOR_UPDATES": "0",
        # Asking the emulator costs nothing, waiting five seconds between questions does.
        "SAM_CLI_POLL_DELAY": "0.2",
        # Profiles and settings of this machine's user are for real accounts.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _scratch(log: Path) -> dict[str, str]:
    """SAM CLI leaves temporary directories behind; beside its log they go with the run's own."""
    return {"TMPDIR": str(log.parent)}


def _sources() -> Iterable[Path]:
    yield from (ROOT / name for name in ("template.yaml", "samconfig.toml", "requirements.txt"))
    yield ENVIRONMENTS["sam"].lock
    yield from (ROOT / "infra" / name for name in ("artefact.py", "build.mk"))
    yield Path(overlay.__file__)
    yield from sorted((ROOT / "infra").glob("*.yaml"))
    yield from sorted(
        path for path in (ROOT / "functions").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )


def fingerprint() -> str:
    """Changes with everything that a build is made from."""
    digest = hashlib.sha256()
    for path in _sources():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build(group: ProcessGroup, log: Path) -> bool:
    """Brings .aws-sam/build up to date; says whether there was something to do.

    Raises ProcessFailedError when `sam build` fails.
    """
    BUILD.parent.mkdir(exist_ok=True)
    with (BUILD.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        current = fingerprint()
        if FINGERPRINT.exists() and FINGERPRINT.read_text() == current:
            return False
        group.run([SAM, "build"], env=environment(OFFLINE | _scratch(log)), cwd=ROOT, log=log)
        overlay.write(BUILD)
        FINGERPRINT.write_text(current)
        return True


def deploy(
    group: ProcessGroup, name: str, parameters: Mapping[str, str], *, bucket: str, aws: Mapping[str, str], log: Path
) -> None:
    """Deploys the build as the stack `name`, to the account that the variables `aws` name.

    Everything else is as samconfig.toml has it. Raises ProcessFailedError when `sam deploy` fails.
    """
    command: list[str | Path] = [SAM, "deploy", "--stack-name", name, "--template-file", TEMPLATE]
    # Named, because SAM CLI would look for it beside the built template.
    command += ["--config-file", ROOT / "samconfig.toml"]
    # A bucket of our own spares the stack that --resolve-s3 would make first.
    command += ["--s3-bucket", bucket, "--no-resolve-s3", "--no-confirm-changeset", "--no-progressbar"]
    # SAM CLI takes a value apart at spaces and quotes unless it is quoted itself.
    quoted = {key: value.replace('"', '\\"') for key, value in parameters.items()}
    command += ["--parameter-overrides", *(f'{key}="{value}"' for key, value in quoted.items())]
    group.run(command, env=environment({**aws, **_scratch(log)}), cwd=ROOT, log=log)


def main(arguments: Sequence[str]) -> int:
    return subprocess.run([SAM, *arguments], env=environment(OFFLINE), cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

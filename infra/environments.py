"""The project's virtual environments, each made by uv from a hashed lock file.

Tools have environments of their own because their pins exclude each other: the emulator, SAM CLI and checkov each want
another botocore. Run by `infra/setup` with nothing but the standard library.
"""

import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "infra" / "requirements"
TOOLS = ROOT / ".tools"
UV = TOOLS / "uv" / "bin" / "uv"
COMMAND = ROOT / "infra" / "ops" / "installed"


@dataclass(frozen=True)
class Environment:
    """A virtual environment: where it is, and whether it is made only when it is named."""

    name: str
    path: Path
    optional: bool = False

    @property
    def lock(self) -> Path:
        return LOCKS / f"{self.name}.txt"

    @property
    def stamp(self) -> str:
        """What the environment was made from. A virtual environment breaks when it is moved, so its place counts."""
        return f"{self.path}\n{sys.version}\n{sys.executable}\n{self.lock.read_text()}"

    def is_current(self) -> bool:
        try:
            return (self.path / "stamp").read_text() == self.stamp
        except FileNotFoundError:
            return False

    def finish(self) -> None:
        """Written last: an interrupted installation is repeated."""
        (self.path / "stamp").write_text(self.stamp)


UV_ENVIRONMENT = Environment("uv", TOOLS / "uv")
ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("dev", ROOT / ".venv"),
        Environment("emulator", TOOLS / "emulator"),
        Environment("sam", TOOLS / "sam"),
        Environment("checkov", TOOLS / "checkov"),
        Environment("audit", TOOLS / "audit", optional=True),
        Environment("awscli", TOOLS / "awscli", optional=True),
        Environment("bench", TOOLS / "bench", optional=True),
    )
}


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would change an installation.

    Settings of a mirror or a proxy stay; uv does not read pip's, so the index is handed over.
    """
    harmful = {
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONNOUSERSITE",
        "PIP_FIND_LINKS",
        "PIP_NO_BINARY",
        "PIP_PREFIX",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_TARGET",
        "PIP_USER",
        "UV_FIND_LINKS",
        "UV_NO_BINARY",
        "UV_OFFLINE",
        "UV_PROJECT_ENVIRONMENT",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "VIRTUAL_ENV",
    }
    clean = {name: value for name, value in os.environ.items() if name not in harmful}
    if "PIP_INDEX_URL" in clean:
        clean.setdefault("UV_DEFAULT_INDEX", clean["PIP_INDEX_URL"])
    return clean


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], cwd=ROOT, env=clean_environment(), check=True)


def install_uv(environment: Environment) -> None:
    run(sys.executable, "-m", "venv", "--clear", environment.path)
    options = ("--quiet", "--disable-pip-version-check", "install", "--no-compile", "--require-hashes")
    run(environment.path / "bin" / "python", "-m", "pip", *options, "-r", environment.lock)


def install(environment: Environment) -> None:
    run(UV, "--quiet", "--no-config", "venv", "--clear", "--python", sys.executable, environment.path)
    python = environment.path / "bin" / "python"
    run(UV, "--quiet", "--no-config", "pip", "install", "--require-hashes", "--python", python, "-r", environment.lock)


def install_command(environment: Environment) -> None:
    """The operator's command, as `devin-ops` and as the module `devin_ops`. No package: building one takes another tool
    and the network."""
    (packages,) = (environment.path / "lib").glob("python3.*/site-packages")
    python, script = environment.path / "bin" / "python", environment.path / "bin" / "devin-ops"
    (packages / "devin_ops.pth").write_text(f"{COMMAND}\n", encoding="utf-8")
    # Isolated: neither the directory that the shell is in nor PYTHONPATH has a say. A shell's exec, because the first
    # line of a script takes no path with a space in it. Ctrl-C is ignored until Python can end without a traceback.
    script.write_text(
        f"#!/bin/sh\ntrap '' INT\nexec {shlex.quote(str(python))} -I -m devin_ops \"$@\"\n", encoding="utf-8"
    )
    script.chmod(0o755)


def make(environment: Environment) -> None:
    if environment.is_current():
        return
    started = time.monotonic()
    if environment is UV_ENVIRONMENT:
        install_uv(environment)
    else:
        install(environment)
    environment.finish()
    place = environment.path.relative_to(ROOT)
    print(f"{place}: installed in {time.monotonic() - started:.1f} s", file=sys.stderr)


@contextmanager
def exclusively() -> Iterator[None]:
    """Two runs at once (say `make test` and `make up`) must not build the same environment."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(names: list[str]) -> int:
    choices = {**ENVIRONMENTS, "uv": UV_ENVIRONMENT}
    unknown = [name for name in names if name not in choices]
    if unknown:
        print(f"no such environment: {', '.join(unknown)} (there are {', '.join(choices)})", file=sys.stderr)
        return 2
    wanted = [choices[name] for name in names] or [one for one in ENVIRONMENTS.values() if not one.optional]
    try:
        with exclusively(), ThreadPoolExecutor() as side_by_side:
            make(UV_ENVIRONMENT)
            for _ in side_by_side.map(make, wanted):
                pass
            if ENVIRONMENTS["dev"] in wanted:
                install_command(ENVIRONMENTS["dev"])
    except subprocess.CalledProcessError as error:
        print(f"could not make an environment: {shlex.join(error.cmd)} ended with {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

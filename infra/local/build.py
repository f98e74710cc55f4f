"""Builds what is deployed on this machine: what `sam build` makes, by the same script, in a fraction of its time.

Both functions share one directory, and uv installs their dependencies.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from infra import artefact
from infra.environments import ROOT, UV, run
from infra.local import overlay
from infra.local.processes import ProcessFailedError

BUILD = ROOT / ".local" / "build"
FUNCTIONS = BUILD / "functions"
TEMPLATE = BUILD / overlay.NAME
# Written last: an interrupted build is repeated.
FINGERPRINT = BUILD / "fingerprint"


def build() -> bool:
    """Bring the build up to date; say whether there was something to do. Raises ProcessFailedError."""
    BUILD.parent.mkdir(exist_ok=True)
    with (BUILD.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        current = _fingerprint()
        if FINGERPRINT.exists() and FINGERPRINT.read_text() == current:
            return False
        shutil.rmtree(BUILD, ignore_errors=True)
        try:
            artefact.build(FUNCTIONS, _install)
        except (artefact.ArtefactError, subprocess.CalledProcessError) as error:
            raise ProcessFailedError(f"the functions were not built: {error}") from error
        _write_template(ROOT / "template.yaml", BUILD)
        overlay.write(BUILD)
        FINGERPRINT.write_text(current)
        return True


def _install(requirements: Path, target: Path) -> None:
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:")
    run(
        UV,
        "--quiet",
        "--no-config",
        "pip",
        "install",
        *options,
        f"--python={sys.executable}",
        f"--target={target}",
        f"--requirement={requirements}",
    )
    (target / ".lock").unlink(missing_ok=True)


def _write_template(source: Path, directory: Path) -> None:
    """Write a template and those nested in it, with the paths of what is built."""
    from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second

    template = yaml_parse(source.read_text())
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = FUNCTIONS.name
        elif resource["Type"] == "AWS::CloudFormation::Stack":
            _write_template(source.parent / properties["TemplateURL"], directory / name)
            properties["TemplateURL"] = f"{name}/template.yaml"
    directory.mkdir(exist_ok=True)
    (directory / "template.yaml").write_text(json.dumps(template))


def _sources() -> Iterator[Path]:
    yield from (ROOT / "template.yaml", ROOT / "requirements.txt", Path(artefact.__file__), Path(overlay.__file__))
    yield Path(__file__)
    yield from sorted((ROOT / "infra").glob("*.yaml"))
    yield from sorted((ROOT / "functions").rglob("*.py"))


def _fingerprint() -> str:
    """A digest of everything that the build is made from."""
    digest = hashlib.sha256()
    for path in _sources():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()

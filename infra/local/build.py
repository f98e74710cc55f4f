"""Builds what is deployed on this machine: what `sam build` makes, by the same script, in a fraction of its time.

Both functions share one directory, and uv installs their dependencies.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from infra import artefact
from infra.environments import ROOT, UV, run
from infra.local.processes import ProcessFailedError

BUILD = ROOT / ".local" / "build"
FUNCTIONS = BUILD / "functions"
TEMPLATE = BUILD / "template.json"
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
        write_template(ROOT / "template.yaml", TEMPLATE, FUNCTIONS.name)
        FINGERPRINT.write_text(current)
        return True


def _install(requirements: Path, target: Path) -> None:
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", f"--python={sys.executable}")
    run(UV, "--quiet", "--no-config", "pip", "install", *options, f"--target={target}", f"--requirement={requirements}")
    (target / ".lock").unlink(missing_ok=True)


def write_template(source: Path, target: Path, code_uri: str | None = None) -> None:
    """Write a template as it is deployed here, and those nested in it beside it.

    `code_uri` is where the functions' code is, unless the template says so already.
    """
    from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second

    template = yaml_parse(source.read_text())
    for name, resource in list(template["Resources"].items()):
        properties = resource.get("Properties", {})
        # The emulator knows neither saved queries nor alarms on metric math.
        if resource["Type"] == "AWS::Logs::QueryDefinition" or "Metrics" in properties:
            del template["Resources"][name]
        elif resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = code_uri or properties["CodeUri"]
        elif resource["Type"] == "AWS::CloudFormation::Stack":
            nested = target.with_name(f"{name}.json")
            write_template(source.parent / properties["TemplateURL"], nested, code_uri)
            properties["TemplateURL"] = nested.name
    if "Globals" in template:
        # The first step of the backoff, so that what is retried is back within seconds.
        template["Globals"]["Function"]["Environment"]["Variables"]["RETRY_BASE_SECONDS"] = "1"
    target.write_text(json.dumps(template))


def _fingerprint() -> str:
    """A digest of everything that the build is made from."""
    digest = hashlib.sha256()
    made_from = (ROOT / "template.yaml", ROOT / "requirements.txt", Path(artefact.__file__), Path(__file__))
    for path in (*made_from, *sorted((ROOT / "infra").glob("*.yaml")), *sorted((ROOT / "functions").rglob("*.py"))):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()

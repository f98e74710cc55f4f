"""What ships in the functions' artefact, as CycloneDX: `python -m infra.audit.sbom` writes it, `--check` compares.

The artefact holds what requirements.txt pins, and so does the environment that this runs in. A test holds the list to
what is really in the artefact.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from infra.audit import pins
from infra.audit.pins import Pin
from infra.environments import LOCKS, ROOT

SBOM = ROOT / "docs" / "sbom.cdx.json"
_DECLARED = LicenseAcknowledgement.DECLARED


class SbomError(Exception):
    """The list cannot be made, or would not be valid; the message says why."""


def render() -> str:
    """The list for what requirements.txt pins: the same text as long as the pins are the same."""
    pinned = {pin.package: pin for pin in pins.read([pins.RUNTIME])}
    components = {name: _component(pin) for name, pin in pinned.items()}
    # No version: that of the project is the commit that holds this file.
    functions = Component(name="devin-session-cleanup", type=ComponentType.APPLICATION, bom_ref="functions")
    bom = Bom(components=components.values())
    bom.metadata.component = functions
    # Neither a time nor a random number, so that it changes when what ships does.
    bom.metadata.timestamp = None  # type: ignore[assignment]
    bom.serial_number = uuid5(NAMESPACE_URL, "\n".join(str(one.purl) for one in bom.components))
    bom.register_dependency(functions, [components[name] for name in _asked_for()])
    for name, component in components.items():
        needed = (canonicalize_name(one.name) for one in _requirements(distribution(name)))
        bom.register_dependency(component, [components[other] for other in needed if other in components])
    text: str = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SbomError(f"not valid: {error}")
    return text


def _component(pin: Pin) -> Component:
    installed = distribution(pin.package)
    if installed.version != str(pin.version):
        raise SbomError(f"{pin.package} {installed.version} is installed, {pin.version} is pinned; run `make setup`")
    purl = PackageURL("pypi", None, pin.package, installed.version)
    return Component(
        name=pin.package,
        version=installed.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        licenses=_licenses(installed),
        # Of every file that pip may install under this pin: it takes one of them.
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(f"https://pypi.org/project/{pin.package}/{installed.version}/#files"),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in pin.hashes],
            )
        ],
    )


def _licenses(installed: Distribution) -> list[License]:
    """What the package says of itself: an SPDX expression or name if there is one, its classifiers otherwise."""
    metadata, factory = installed.metadata, LicenseFactory()
    written = metadata.get("License-Expression") or metadata.get("License") or ""
    license_ = factory.make_from_string(written, license_acknowledgement=_DECLARED) if written else None
    if license_ is not None and not (isinstance(license_, DisjunctiveLicense) and license_.id is None):
        return [license_]
    classified = [one for one in metadata.get_all("Classifier", []) if one.startswith("License :: OSI Approved :: ")]
    if not classified:
        raise SbomError(f"{installed.name} says nothing of its licence")
    return [DisjunctiveLicense(name=one.rpartition(" :: ")[2], acknowledgement=_DECLARED) for one in classified]


def _asked_for() -> list[NormalizedName]:
    """What the functions themselves want; the rest comes with it."""
    lines = (LOCKS / "runtime.in").read_text(encoding="utf-8").splitlines()
    return [canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("#")]


def _requirements(installed: Distribution) -> Iterator[Requirement]:
    for written in installed.requires or ():
        requirement = Requirement(written)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def main(arguments: list[str], path: Path = SBOM) -> int:
    text = render()
    if arguments == ["--check"]:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.relative_to(ROOT)} is not what requirements.txt says; run `make sbom`", file=sys.stderr)
            return 1
        return 0
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

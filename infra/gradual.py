"""`python -m infra.gradual <deployment>`: the built template, with what a gradual deployment needs laid over it.

Writes `.aws-sam/build/gradual.json` beside the built template, for `sam deploy --template-file`. <deployment> is a name
that no deployment had before, such as a commit and the number of a run. infra/gradual.yaml says what is added and why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.environments import ROOT
from infra.local.sam import BUILD

OVERLAY = ROOT / "infra" / "gradual.yaml"
GRADUAL = BUILD / "gradual.json"

type Template = dict[str, Any]


# What CloudFormation leaves out unless the parameter is given.
_BOUNDED = {"PermissionsBoundary": {"Fn::If": ["IsBounded", {"Ref": "RolesBoundary"}, {"Ref": "AWS::NoValue"}]}}


def laid_over(below: Any, above: Any) -> Any:
    """Maps are merged, key by key, and None takes a key away; of anything else the upper one counts.

    As a JSON merge patch does it: https://www.rfc-editor.org/rfc/rfc7396
    """
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    merged = below | {key: laid_over(below.get(key), value) for key, value in above.items()}
    return {key: value for key, value in merged.items() if key not in above or above[key] is not None}


def gradual(built: Template, overlay: Template, deployment: str) -> Template:
    """A template that publishes a new version of `terminate` and moves its alias there step by step.

    `deployment` becomes part of the version: its environment says it, so that there always is something to publish, and
    the version's logical id is made of it, so that CloudFormation makes a new one.
    """
    new = {
        "AutoPublishCodeSha256": hashlib.sha256(deployment.encode()).hexdigest(),
        "Environment": {"Variables": {"DEPLOYMENT": deployment}},
    }
    template: Template = laid_over(laid_over(built, overlay), _properties({"TerminateFunction": new}))
    roles = [name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::IAM::Role"]
    return cast(Template, laid_over(template, _properties(dict.fromkeys(roles, _BOUNDED))))


def _properties(of: Mapping[str, Template]) -> Template:
    return {"Resources": {name: {"Properties": properties} for name, properties in of.items()}}


def _deployment(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", text):
        raise argparse.ArgumentTypeError("letters, digits, '.', '_' and '-', at most 128")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.gradual", description=__doc__)
    parser.add_argument("deployment", type=_deployment, help="a name that no deployment had before")
    asked = parser.parse_args()
    built = BUILD / "template.yaml"
    if not built.exists():
        print(f"there is no {built.relative_to(ROOT)}; run `make build` first", file=sys.stderr)
        return 1
    write(built, asked.deployment, GRADUAL)
    print(GRADUAL.relative_to(ROOT))
    return 0


def write(built: Path, deployment: str, to: Path) -> None:
    """Beside the built template, because what it names it names relative to its own place."""
    template = gradual(yaml_parse(built.read_text()), yaml_parse(OVERLAY.read_text()), deployment)
    to.write_text(json.dumps(template, indent=1))


if __name__ == "__main__":
    sys.exit(main())

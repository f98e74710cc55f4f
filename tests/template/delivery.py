"""infra/delivery.yaml as it is deployed for the stack `cleanup`, of a repository with ids."""

from __future__ import annotations

import json
from functools import cache
from typing import cast

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tests.template.rendered import PSEUDO_PARAMETERS, ROOT, Json, _Renderer

ACCOUNT, REGION, STACK = (PSEUDO_PARAMETERS[f"AWS::{name}"] for name in ("AccountId", "Region", "StackName"))
EXISTING_SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:of-others-AbCdEf"


def template() -> Json:
    """As it is written."""
    return cast(Json, yaml_parse((ROOT / "infra" / "delivery.yaml").read_text(encoding="utf-8")))


@cache
def resources(stack_name: str = STACK) -> dict[str, Json]:
    """The properties of every resource."""
    given = {"Repository": "octo@1/clean.up@2", "StackName": stack_name, "ExistingApiKeySecretArn": EXISTING_SECRET}
    whole = template()
    values = {name: given.get(name, str(one.get("Default"))) for name, one in whole["Parameters"].items()}
    renderer = _Renderer(whole, values)
    return {name: renderer.value(one)["Properties"] for name, one in whole["Resources"].items() if renderer.exists(one)}


def policy_of_the_job(stack_name: str, account: str, region: str) -> Json:
    """What a job on GitHub may do, in another account, without what has no ARN outside of a stack."""
    (policy,) = resources(stack_name)["DeployRole"]["Policies"]
    text = json.dumps(policy["PolicyDocument"]).replace(ACCOUNT, account).replace(REGION, region)
    document: Json = json.loads(text)
    document["Statement"] = [one for one in document["Statement"] if ".Arn" not in json.dumps(one)]
    return document

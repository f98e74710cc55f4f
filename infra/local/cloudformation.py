"""Deploys the local build as `sam deploy` does, by the API of CloudFormation, in a fraction of its time."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local import build
from infra.local.processes import ProcessFailedError

if TYPE_CHECKING:
    from infra.local.aws import Aws

BUCKET = "artefacts"
_CODE = "functions.zip"


def deploy(aws: Aws, name: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Create a stack from the build; return its outputs. Raises ProcessFailedError."""
    stacks = aws.cloudformation
    aws.s3.put_object(Bucket=BUCKET, Key=_CODE, Body=_archive(build.FUNCTIONS))
    stacks.create_stack(
        StackName=name,
        TemplateURL=_upload_template(aws, build.TEMPLATE),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        # The first is samconfig.toml's; the second stands for the macro of SAM, which `sam deploy` adds.
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    while True:
        (stack,) = stacks.describe_stacks(StackName=name)["Stacks"]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            break
        time.sleep(0.1)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        reasons = [
            f"{event.get('LogicalResourceId')}: {event.get('ResourceStatusReason')}"
            for event in reversed(stacks.describe_stack_events(StackName=name)["StackEvents"])
            if event.get("ResourceStatus", "").endswith("_FAILED")
        ]
        raise ProcessFailedError("\n".join([f"{name} was not deployed: {stack['StackStatus']}", *reasons]))
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _upload_template(aws: Aws, path: Path) -> str:
    """Upload a template after those that it names, its functions' code as uploaded; return its address."""
    template = json.loads(path.read_text())
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = {"Bucket": BUCKET, "Key": _CODE}
        elif resource["Type"] == "AWS::CloudFormation::Stack":
            properties["TemplateURL"] = _upload_template(aws, path.parent / properties["TemplateURL"])
    aws.s3.put_object(Bucket=BUCKET, Key=path.name, Body=json.dumps(template))
    return f"https://s3.{aws.region}.amazonaws.com/{BUCKET}/{path.name}"


def _archive(directory: Path) -> bytes:
    """A zip file of a directory; not compressed, because it goes no farther than this machine."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(directory.rglob("*")):
            archive.write(path, path.relative_to(directory))
    return content.getvalue()

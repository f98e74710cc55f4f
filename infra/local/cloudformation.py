"""Deploys the local build as `sam deploy` does, by the API of CloudFormation, in a fraction of its time."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra.local.processes import ProcessFailedError

if TYPE_CHECKING:
    from infra.local.aws import Aws

BUCKET = "artefacts"


def deploy(aws: Aws, name: str, template: Path, parameters: Mapping[str, str]) -> dict[str, str]:
    """Create or update a stack from a built template; return its outputs. Raises ProcessFailedError."""
    stacks = aws.cloudformation
    request: Any = {
        "StackName": name,
        "TemplateURL": _upload_template(aws, template),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        # The first is samconfig.toml's; the second stands for the macro of SAM, which `sam deploy` adds.
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    try:
        stacks.describe_stacks(StackName=name)
        change: Callable[..., object] = stacks.update_stack
    except ClientError:
        change = stacks.create_stack
    try:
        change(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise ProcessFailedError(f"{name} was not deployed: {error}") from error
    while True:
        (stack,) = stacks.describe_stacks(StackName=name)["Stacks"]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            break
        time.sleep(0.1)
    if stack["StackStatus"] not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        reasons = [
            f"{event.get('LogicalResourceId')}: {event.get('ResourceStatusReason')}"
            for event in reversed(stacks.describe_stack_events(StackName=name)["StackEvents"])
            if event.get("ResourceStatus", "").endswith("_FAILED")
        ]
        raise ProcessFailedError("\n".join([f"{name} was not deployed: {stack['StackStatus']}", *reasons]))
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _upload_template(aws: Aws, path: Path) -> str:
    """Upload a template and, first, the directories and templates that it names; return its address."""
    template = json.loads(path.read_text())
    keys: dict[str, str] = {}
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            code = properties["CodeUri"]
            if code not in keys:
                keys[code] = _upload(aws, _archive(path.parent / code), "zip")
            properties["CodeUri"] = {"Bucket": BUCKET, "Key": keys[code]}
        elif resource["Type"] == "AWS::CloudFormation::Stack":
            properties["TemplateURL"] = _upload_template(aws, path.parent / properties["TemplateURL"])
    key = _upload(aws, json.dumps(template).encode(), "template")
    return f"https://s3.{aws.region}.amazonaws.com/{BUCKET}/{key}"


def _upload(aws: Aws, content: bytes, suffix: str) -> str:
    key = f"{hashlib.sha256(content).hexdigest()}.{suffix}"
    aws.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    return key


def _archive(directory: Path) -> bytes:
    """A zip file of a directory; not compressed, because it goes no farther than this machine."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(directory))
    return content.getvalue()

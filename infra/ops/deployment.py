"""The deployed stack, found by its name, and what invokes its function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.ops.problems import AwsError, FoundError, code_of

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationTypeDef


@dataclass(frozen=True)
class Deployment:
    """What CloudFormation says of the stack. `changed_at` is when it was last created or updated."""

    name: str
    status: str
    changed_at: datetime
    outputs: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)

    def output(self, name: str) -> str:
        """Raises FoundError if the stack has no such output: it is another one, or an older version."""
        try:
            return self.outputs[name]
        except KeyError:
            raise FoundError(
                f"the stack {self.name} has no output {name}: it is another stack (see --stack-name), or was deployed "
                "from an older version of the template"
            ) from None

    @property
    def work_queue_url(self) -> str:
        return self.output("WorkQueueUrl")

    @property
    def work_queue_arn(self) -> str:
        return self.output("WorkQueueArn")

    @property
    def dead_letter_queue_url(self) -> str:
        return self.output("DeadLetterQueueUrl")

    @property
    def dead_letter_queue_arn(self) -> str:
        return self.output("DeadLetterQueueArn")


def find_deployment(cloudformation: CloudFormationClient, name: str) -> Deployment:
    """Raises AwsError if there is no such stack here, and what botocore raises."""
    try:
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if code_of(error) != "ValidationError":
            raise
        region = cloudformation.meta.region_name
        raise AwsError(
            f"there is no stack {name} in {region} of this account; give --stack-name, --region or --profile, "
            "or deploy it (sam deploy)"
        ) from None
    return Deployment(
        name=stack["StackName"],
        status=stack["StackStatus"],
        changed_at=stack.get("LastUpdatedTime", stack["CreationTime"]),
        outputs={one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])},
        parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in stack.get("Parameters", [])},
    )


def resource_of(cloudformation: CloudFormationClient, name: str, logical_id: str) -> str:
    """The physical id of one of the stack's resources; raises what botocore raises."""
    answer = cloudformation.describe_stack_resource(StackName=name, LogicalResourceId=logical_id)
    return answer["StackResourceDetail"].get("PhysicalResourceId", "")


def mapping_of(lambda_: LambdaClient, deployment: Deployment) -> EventSourceMappingConfigurationTypeDef | None:
    """The mapping from the work queue to the stack's function, or to a version or an alias of it: listing by the
    function's name leaves those out."""
    function = deployment.output("TerminateFunctionName")
    pages = lambda_.get_paginator("list_event_source_mappings").paginate(EventSourceArn=deployment.work_queue_arn)
    mappings = [one for page in pages for one in page["EventSourceMappings"]]
    found = [one for one in mappings if one["FunctionArn"].split(":")[6] == function]
    # A deployment that changes what is invoked leaves two for a while.
    return min(found, key=lambda one: one["State"] == "Deleting", default=None)

"""`sam deploy` makes of the build what the other tests look at, which the API of CloudFormation deployed."""

from __future__ import annotations

import json

from infra.local.stack import Account, Stack


def test_sam_deploy_makes_the_same_stack(account: Account, stack: Stack) -> None:
    policy = json.dumps({"idle_for": "PT12H", "tags": ["a tag"]})

    deployed = account.sam_deploy("by-sam", {"SweepPolicy": policy})

    assert deployed.outputs.keys() == stack.outputs.keys()
    (description,) = account.aws.cloudformation.describe_stacks(StackName=deployed.name)["Stacks"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in description["Parameters"]}
    assert (parameters["SweepPolicy"], parameters["DevinApiUrl"]) == (policy, account.api.url)

"""Deployments by way of an alias: what goes by it meets a version that was published, and every deployment is one.

Without CodeDeploy, which the emulator does not have: the alias moves at once.
"""

from __future__ import annotations

import json

import pytest

from infra import gradual
from infra.local.sam import BUILD
from infra.local.stack import API_KEY, Account, Stack
from tests.integration.world import World, wait_for

NAME = "gradual"


def deploy(account: Account, deployment: str, **parameters: str) -> Stack:
    """Lay the layer over the build and deploy it, as the workflow does."""
    template = BUILD / f"gradual-{account.directory.name}.json"  # beside the built template, which others deploy too
    gradual.write(BUILD / "template.yaml", deployment, template)
    try:
        layered = json.loads(template.read_text())
        layered["Resources"]["TerminateFunction"]["Properties"]["DeploymentPreference"] = {"Enabled": False}
        template.write_text(json.dumps(layered))
        return account.deploy(NAME, {"Observability": "false", **parameters}, template)
    finally:
        template.unlink()


@pytest.fixture(scope="module")
def first(account: Account) -> Stack:
    stack = deploy(account, "0a1b-1-1")
    stack.put_api_key(API_KEY)
    return stack


def published(stack: Stack) -> str:
    """The version that the alias points at."""
    return stack.aws.lambda_.get_alias(FunctionName=stack.terminate_function_name, Name="live")["FunctionVersion"]


def test_a_deployment_that_changes_a_parameter_alone_reaches_what_goes_by_the_alias(
    account: Account, first: Stack
) -> None:
    # Given a first deployment, and somebody who has changed the function since, past all deployments
    world, alias = World(first), first.outputs["TerminateAliasArn"]
    (mapping,) = first.aws.lambda_.list_event_source_mappings(EventSourceArn=first.outputs["WorkQueueArn"])[
        "EventSourceMappings"
    ]
    assert mapping["FunctionArn"] == alias
    before = published(first)
    with world.environment(DRY_RUN="true"):
        # When a message comes
        session = world.session("gradual")
        world.send(session)
        # Then the version that was published ends it, and so it does for whoever calls the alias
        wait_for(lambda: world.exited(session), "the end of a session")
        called = world.session("gradual")
        assert world.invoke({"session_id": called}, alias) == {"terminated": [called]}
    world.wait_until_drained()

    # When a parameter is deployed, and no code
    second = deploy(account, "0a1b-2-1", DryRun="true")
    # Then the alias points at another version, which goes by the parameter, and the mapping goes by it
    assert published(second) != before
    spared = world.session("gradual")
    assert world.invoke({"session_id": spared}, alias) == {"would_terminate": [spared]}
    world.send(spared)
    world.wait_until_drained()
    assert world.methods(spared) == []
    assert world.letters() == []


def test_both_ways_in_have_a_failure_destination(first: Stack) -> None:
    function, letters = first.terminate_function_name, first.outputs["DeadLetterQueueArn"]
    for qualifier in ("$LATEST", "live"):
        config = first.aws.lambda_.get_function_event_invoke_config(FunctionName=function, Qualifier=qualifier)
        assert config["DestinationConfig"]["OnFailure"]["Destination"] == letters

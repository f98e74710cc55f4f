"""A bug in the function: put in from outside, by a layer whose handler stands before the unchanged artefact's own."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from tests.integration.world import World, wait_for

# Lambda finds a layer's modules beside the artefact's.
BUGGY = """
from terminate import invocation
from terminate.handler import lambda_handler

sound = invocation.end_session


def end_session(session_id, *args, **kwargs):
    if "-bug-" in session_id:
        raise ZeroDivisionError("a bug that somebody made")
    return sound(session_id, *args, **kwargs)


invocation.end_session = end_session
"""


@pytest.mark.fault(19)
def test_a_bug_costs_one_id_a_delay_and_one_traceback(world: World) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("python/buggy.py", BUGGY)
    layer = world.stack.aws.lambda_.publish_layer_version(LayerName="bug", Content={"ZipFile": content.getvalue()})
    good, met, other = world.session("sound"), world.session("bug"), world.session("sound")
    arn = layer["LayerVersionArn"]
    with world.second_function("buggy", handler="buggy.lambda_handler", layers=[arn]) as buggy:
        answer = world.invoke({"session_ids": [good, met, other]}, buggy)
    assert answer == {"terminated": [good, other], "retry": [met]}

    # Sent back to the work queue, where a function without the bug finds it.
    assert world.story(met, "terminated") == ["retry", "terminated"]
    assert world.lines(met)[0]["detail"] == "unexpected error, see the traceback"
    assert world.methods(met) == world.methods(good) == world.methods(other) == ["DELETE"]
    assert not [letter for one in (good, met, other) for letter in world.letters_about(one)]

    def tracebacks() -> list[str]:
        return [line for line in world.stack.log_lines() if "ZeroDivisionError" in line]

    (line,) = wait_for(tracebacks, "the traceback")
    entry = json.loads(line)
    assert entry["level"] == "ERROR"
    assert "in end_session" in entry["exception"]

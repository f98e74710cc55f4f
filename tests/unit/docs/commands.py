"""Commands as the pages show them."""

import re
from typing import Any

from typer.main import get_command

from infra.ops.app import app
from tests.template.rendered import source

_CODE = re.compile(r"^ *```\w*\n(.*?)^ *```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_ROOT: Any = get_command(app)


def code(text: str) -> str:
    """What stands in blocks and between backticks, commands continued on another line joined."""
    return "\n".join(block or inline for block, inline in _CODE.findall(text)).replace("\\\n", " ")


def assert_ops_has(*arguments: str) -> None:
    """Whether `devin-ops` has this command and its options."""
    command, words = _ROOT, list(arguments)
    options = {"-h", "--help"}
    while True:
        options |= {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        if not hasattr(command, "commands") or not words or words[0].startswith("-"):
            break
        word = words.pop(0)
        assert word in command.commands, f"devin-ops has no {word}"
        command = command.commands[word]
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert given <= options, f"devin-ops {' '.join(arguments)}: {given - options}"


def variables() -> set[str]:
    """The variables that infra/outputs sets."""
    names = (re.sub(r"(Parameter)?Name$", "", name) for name in source()["Outputs"])
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() for name in names}

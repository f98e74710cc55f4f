"""Serves the emulator: `python emulator_server.py <its site-packages> <arguments of hypercorn>`.

Run by a bare interpreter that gets the emulator's packages only here, inside this process. The emulator starts each
function with the interpreter it runs on itself, so a dependency missing from the artefact is missing here too.
"""

import site
import sys
from collections.abc import Callable
from typing import Any


def correct_differences() -> None:
    """Make the emulator do as AWS does where it does not, so that the template need not allow for it."""
    # Its packages can be imported only now.
    from ministack.core import iam_actions  # noqa: PLC0415
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    # A batch needs the permission of the single action; there is no action of its own.
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    extract = iam_actions.extract_iam_action

    def extract_iam_action(*args: Any, **kwargs: Any) -> str | None:
        action: str | None = extract(*args, **kwargs)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    iam_actions.extract_iam_action = extract_iam_action

    # The value of a parameter is text. CloudFormation makes it the integer that the property wants.
    def with_integers(handler: Callable[..., Any]) -> Callable[..., Any]:
        def handle(*args: Any) -> Any:
            for properties in args:
                if isinstance(properties, dict) and (scaling := properties.get("ScalingConfig")):
                    scaling["MaximumConcurrency"] = int(scaling["MaximumConcurrency"])
            return handler(*args)

        return handle

    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]  # noqa: SLF001
    handlers.update({name: with_integers(handlers[name]) for name in ("create", "update")})


if __name__ == "__main__":
    site.addsitedir(sys.argv[1])
    correct_differences()

    from hypercorn.__main__ import main

    sys.exit(main(sys.argv[2:]))

"""The stop switch: one parameter that keeps both functions from acting, without a deployment."""

from __future__ import annotations

from collections.abc import Callable

from aws_lambda_powertools.utilities.parameters import SSMProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

# How long a function may go on after the switch was thrown.
SWITCH_CACHE_SECONDS = 15


def stop_switch(provider: SSMProvider, parameter: str) -> Callable[[], str | None]:
    """A question: why nothing may be done now, or None if all is well.

    Only a parameter that says `go` means go. One that cannot be read means stop: a tool that kills things must not
    lose its brake and carry on.
    """

    def reason_to_stop() -> str | None:
        try:
            value = provider.get(parameter, max_age=SWITCH_CACHE_SECONDS)
        except GetParameterError as error:
            return f"stopped: the switch {parameter} cannot be read ({error})"
        if isinstance(value, str) and value.strip().lower() == "go":
            return None
        return f"stopped by the switch {parameter}; set it to go to carry on"

    return reason_to_stop

"""The stop switch: one parameter that keeps both functions from acting, without a deployment."""

from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from cached import cached

# How long a function may go on after the switch was set to stop.
SWITCH_CACHE_SECONDS = 15


def stop_switch(read: Callable[[], str], parameter: str) -> Callable[[], str | None]:
    """A function that returns why nothing may be done now, None for go. `read` reads the parameter from SSM. Anything
    but `go` means stop, and so does a parameter that cannot be read."""
    value = cached(read, SWITCH_CACHE_SECONDS)

    def reason_to_stop() -> str | None:
        try:
            says = value(False)
        except (ClientError, BotoCoreError) as error:
            return f"stopped: the switch {parameter} cannot be read ({error})"
        if says.strip().lower() == "go":
            return None
        return f"stopped by the switch {parameter}; set it to go to carry on"

    return reason_to_stop

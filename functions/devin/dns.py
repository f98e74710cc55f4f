"""Host names looked up in bounded time: the system's resolver takes no timeout, and may take a minute to give up."""

import socket
from concurrent.futures import Future
from threading import Thread
from typing import Any


class NameServerError(OSError):
    """The name may well exist: the name server gives no answer, or none in time."""


def look_up(host: str, port: int, seconds: float) -> list[Any]:
    """The addresses of a host. Raises socket.gaierror if there is none, NameServerError after so many seconds."""
    lookup: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            lookup.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            lookup.set_exception(error)

    # Nothing can end a lookup, so it goes on in a daemon, which no process waits for.
    Thread(target=ask, name="lookup", daemon=True).start()
    try:
        return lookup.result(seconds)
    except TimeoutError:
        raise NameServerError from None
    except UnicodeError as error:
        raise socket.gaierror(str(error)) from None
    except socket.gaierror as error:
        if error.errno in {socket.EAI_AGAIN, socket.EAI_FAIL}:
            raise NameServerError from None
        raise

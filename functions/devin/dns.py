"""Host names looked up in bounded time: the system's resolver takes no timeout, and may take a minute to give up."""

import socket
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from threading import Lock, Thread
from typing import Any

Addresses = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]

_lock = Lock()
_under_way: dict[tuple[str, int], Future[Addresses]] = {}


class NameServerError(OSError):
    """The name may well exist: the name server gives no answer, or none in time."""


def look_up(host: str, port: int, seconds: float) -> Addresses:
    """The addresses of a host. Raises socket.gaierror if there is none, NameServerError after so many seconds.

    Nothing can end a lookup, so it goes on in a thread of its own: one for each host, whose answer all callers share.
    """
    with _lock:
        lookup = _under_way.get((host, port))
        if lookup is None:
            lookup = Future()
            # A daemon, so that a process need not wait for it to end.
            Thread(target=_ask, args=(host, port, lookup), name="lookup", daemon=True).start()
            _under_way[host, port] = lookup
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


def _ask(host: str, port: int, lookup: Future[Addresses]) -> None:
    try:
        settle = partial(lookup.set_result, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except BaseException as error:  # noqa: BLE001 - the callers get it
        settle = partial(lookup.set_exception, error)
    with _lock:
        del _under_way[host, port]  # before the answer, so that a retry starts a new lookup
    settle()

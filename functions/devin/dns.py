"""Host names looked up in bounded time: the system's resolver takes no timeout, and may take a minute to give up."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any

Addresses = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]


class SlowNameServerError(Exception):
    """The name is still being looked up."""


_lock = Lock()
_under_way: dict[tuple[str, int], Future[Addresses]] = {}


def look_up(host: str, port: int, seconds: float) -> Addresses:
    """The addresses of a host, as `socket.getaddrinfo` tells them.

    Raises what that raises, or SlowNameServerError after so many seconds. Nothing can end a lookup, so it goes on in
    a thread of its own; there is one for each host at most, and all who ask meanwhile share its answer.
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
        raise SlowNameServerError from None


def _ask(host: str, port: int, lookup: Future[Addresses]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except BaseException as error:  # noqa: BLE001 - whatever it is belongs to those who asked
        _forget(host, port)
        lookup.set_exception(error)
    else:
        _forget(host, port)
        lookup.set_result(found)


def _forget(host: str, port: int) -> None:
    """The next call starts a new lookup."""
    with _lock:
        del _under_way[host, port]

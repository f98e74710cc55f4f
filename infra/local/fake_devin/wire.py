"""Answers on a socket, whole or as a fault would have them."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from infra.local.fake_devin.answer import Answer
from infra.local.fake_devin.faults import Fault

_FILLER = b"x" * (16 * 1024)
# What an endless body with a Content-Length claims to be: a tebibyte.
_CLAIMED = 1 << 40


def send(connection: socket.socket, answer: Answer, *, with_body: bool = True) -> None:
    """Sends a whole answer at once: head and body apart could wait on the other side's delayed acknowledgement."""
    head, body = answer.encode()
    connection.sendall(head + body if with_body else head)


def play(
    fault: Fault, connection: socket.socket, answer: Answer, begin: Callable[[], None], ending: threading.Event
) -> bool:
    """Plays a fault with this answer, calling `begin` before the first byte; returns whether to keep the connection.

    Returns when the fault is over, the caller has gone (OSError), or at the latest soon after `ending` is set and the
    connection was shut down.
    """
    if fault.kind == "hang":
        _wait_for_caller(connection, fault.seconds)
        return False
    if fault.sends:
        begin()
    pause = fault.interval if fault.kind == "drip" else 0
    for piece in _pieces(fault, answer):
        connection.sendall(piece)
        if ending.wait(pause):
            return False
    if fault.kind == "reset":
        # Lingering for no time makes close() send RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return fault.kind not in {"reset", "close"} and fault.framing != "close"


def _pieces(fault: Fault, answer: Answer) -> Iterator[bytes]:
    """What is sent, one after the other."""
    if fault.kind == "endless":
        yield from _endless(fault, answer)
    if not fault.sends:
        return
    head, body = answer.encode(fault.framing or "length")
    if fault.kind == "drip":
        if fault.begins == "body":
            yield head
        yield from (bytes([byte]) for byte in (body if fault.begins == "body" else head + body))
    elif fault.kind in {"reset", "close"}:
        yield head[: len(head) // 2] if fault.begins == "head" else head + body[: len(body) // 2]
    else:
        yield head + body


def _endless(fault: Fault, answer: Answer) -> Iterator[bytes]:
    framing = fault.framing or "chunked"
    head = answer.head(framing, _CLAIMED)
    if fault.begins == "head":
        yield head.removesuffix(b"\r\n")
        yield from itertools.repeat(b"X-Filler: " + _FILLER[:1000] + b"\r\n")
    yield head
    yield from itertools.repeat(b"%x\r\n%s\r\n" % (len(_FILLER), _FILLER) if framing == "chunked" else _FILLER)


def _wait_for_caller(connection: socket.socket, seconds: float | None) -> None:
    """Until the caller leaves (or sends more, which no client does before an answer), or the time is over."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.poll(None if seconds is None else seconds * 1000)

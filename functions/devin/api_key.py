"""The service key: what a secret may hold, and one invocation's use of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from threading import Lock

_FIELDS = ("api_key", "service_key", "token")
# What may stand behind "Bearer": https://www.rfc-editor.org/rfc/rfc6750#section-2.1
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ADVICE = 'store the bare key, or JSON {"api_key": "<key>"}, as one line of printable ASCII with nothing around it'


class ApiKeyError(Exception):
    """There is no usable key; the message says what to do and holds no part of the secret."""


def parse_api_key(secret: str | bytes) -> str:
    """The key in a secret: the bare key or a JSON object with it under `api_key`, `service_key` or `token`.

    Raises ApiKeyError. A newline at the end is refused, not trimmed: it would be a header injection if it got
    through, and the person who stored it should know.
    """
    if isinstance(secret, bytes):
        raise ApiKeyError(f"the secret is binary; {_ADVICE}")
    key = _field(secret) if secret.lstrip().startswith("{") else secret
    if not key:
        raise ApiKeyError(f"the secret holds no key yet; {_ADVICE}")
    if not _TOKEN.fullmatch(key):
        raise ApiKeyError(
            "the key in the secret has whitespace, a line break, quotes, NAME= before it or another character that no "
            f"key has; {_ADVICE}"
        )
    return key


def _field(secret: str) -> str:
    try:
        fields = json.loads(secret)
    except (ValueError, RecursionError):
        # `from None`: the decoder's error carries the whole document.
        raise ApiKeyError(f"the secret looks like JSON but is none; {_ADVICE}") from None
    found = [value for name in _FIELDS if (value := fields.get(name)) is not None]
    if not found or not isinstance(found[0], str):
        raise ApiKeyError(f"the secret's JSON has no text under {', '.join(_FIELDS)}; {_ADVICE}")
    return found[0]


class ApiKeys:
    """The key as one invocation sees it: read when first needed, read again once when the API refuses it.

    `fetch(fresh)` returns the secret, past any cache if `fresh`, and raises ApiKeyError. Safe to share between threads:
    however many calls are refused at once, the secret is read once. `unreadable` is why it could not be read after a
    refusal: the key that was refused may have been replaced.
    """

    def __init__(self, fetch: Callable[[bool], str | bytes], remember: Callable[[str], None]) -> None:
        self._fetch = fetch
        self._remember = remember
        self._lock = Lock()
        self._key: str | None = None
        self._error: ApiKeyError | None = None
        self.unreadable: ApiKeyError | None = None
        self._read_again = False

    def current(self) -> str:
        """The key to call with; raises ApiKeyError, the same one for the rest of the invocation."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._key is None:
                self._key = self._read_first()
            return self._key

    def after_refusal(self, refused: str) -> str | None:
        """Another key than the one the API refused, if the secret holds one by now; None if not, or if unreadable.

        The old key stays in use where only one session was refused.
        """
        with self._lock:
            if self._key == refused and not self._read_again:
                try:
                    self._key = self._read_past_the_cache()
                except ApiKeyError as error:
                    self.unreadable = error
            return self._key if self._key != refused else None

    def _read_first(self) -> str:
        try:
            secret = self._fetch(False)
            try:
                return self._key_in(secret)
            except ApiKeyError:
                # What was cached may have been mended since; the operator should not have to wait for the cache. What
                # could not be read is not read again: nothing of it is cached, and its time is better spent.
                return self._read_past_the_cache()
        except ApiKeyError as error:
            self._error = error
            raise

    def _read_past_the_cache(self) -> str:
        self._read_again = True
        return self._key_in(self._fetch(True))

    def _key_in(self, secret: str | bytes) -> str:
        key = parse_api_key(secret)
        self._remember(key)
        return key

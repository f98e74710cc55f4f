"""The service key: what a secret may hold, and one invocation's use of it."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

_FIELDS = ("api_key", "service_key", "token")
# What may stand behind "Bearer": https://www.rfc-editor.org/rfc/rfc6750#section-2.1
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ADVICE = 'store the bare key, or JSON {"api_key": "<key>"}, as one line of printable ASCII with nothing around it'


class ApiKeyError(Exception):
    """There is no usable key; the message says what to do and holds no part of the secret."""


def parse_api_key(secret: str | bytes) -> str:
    """The key in a secret: the bare key or a JSON object with it under `api_key`, `service_key` or `token`.

    Raises ApiKeyError. A newline at the end is refused, not trimmed: the person who stored it should know.
    """
    if isinstance(secret, bytes):
        raise ApiKeyError(f"the secret is binary; {_ADVICE}")
    key: object = secret
    if secret.lstrip().startswith("{"):
        try:
            fields = json.loads(secret)
        except (ValueError, RecursionError):
            # `from None`: the decoder's error carries the whole document.
            raise ApiKeyError(f"the secret looks like JSON but is none; {_ADVICE}") from None
        key = next((value for name in _FIELDS if (value := fields.get(name)) is not None), None)
    if not isinstance(key, str):
        raise ApiKeyError(f"the secret's JSON has no text under {', '.join(_FIELDS)}; {_ADVICE}")
    if not key:
        raise ApiKeyError(f"the secret holds no key yet; {_ADVICE}")
    if not _TOKEN.fullmatch(key):
        raise ApiKeyError(
            "the key in the secret has whitespace, a line break, quotes, NAME= before it or another character that no "
            f"key has; {_ADVICE}"
        )
    return key


class ApiKeys:
    """The key as one invocation sees it: read when first needed, read again once when the API refuses it.

    `fetch(fresh)` returns the key, past any cache if `fresh`, and raises ApiKeyError. Safe to share between threads:
    however many calls are refused at once, the secret is read once. `unreadable` is why the last read failed.
    """

    def __init__(self, fetch: Callable[[bool], str], remember: Callable[[str], None]) -> None:
        self._fetch = fetch
        self._remember = remember
        self._lock = Lock()
        self._key: str | None = None
        self._read_again = False
        self.unreadable: ApiKeyError | None = None

    def current(self) -> str:
        """The key to call with; raises ApiKeyError, the same one for the rest of the invocation."""
        with self._lock:
            if self._key is None:
                if self.unreadable is not None:
                    raise self.unreadable
                self._key = self._read(fresh=False)
            return self._key

    def after_refusal(self, refused: str) -> str | None:
        """Another key than the one the API refused, if the secret holds one by now."""
        with self._lock:
            if self._key == refused and not self._read_again:
                self._read_again = True
                with suppress(ApiKeyError):
                    self._key = self._read(fresh=True)
            return self._key if self._key != refused else None

    def _read(self, *, fresh: bool) -> str:
        try:
            key = self._fetch(fresh)
        except ApiKeyError as error:
            self.unreadable = error
            raise
        self._remember(key)
        return key

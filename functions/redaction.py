"""What others wrote, made fit to be repeated: without the key, on one line, cut."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

_MASK = "[redacted]"
# No real key is this short, and masking one or two letters everywhere would leave no log to read.
_SHORTEST_KEY = 6
# Whatever looks like a Devin key is masked too: the rest of a key that was cut, or a key that was never ours.
_KEY_SHAPE = re.compile(r"\b(?:(?:apk|cog)_|Bearer\s+)[A-Za-z0-9_.~+/=-]+", re.IGNORECASE)
# Control and separator characters, lone surrogates and non-characters: SQS refuses most of them, terminals obey some.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\ud800-\udfff\ufffe\uffff]+")


class Redactor:
    """Masks the keys that it was told of, wherever and however they turn up in a text."""

    def __init__(self) -> None:
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def remember(self, key: str) -> None:
        """Mask this key from now on, also as JSON or a URL would escape it."""
        if len(key) < _SHORTEST_KEY:
            return
        forms = self._forms | {key, json.dumps(key)[1:-1], quote(key, safe="")}
        if forms != self._forms:
            longest_first = sorted(forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
            self._forms = forms

    def __call__(self, text: str) -> str:
        """The text with every known key, and whatever has the shape of one, replaced by a mask."""
        if self._pattern is not None:
            text = self._pattern.sub(_MASK, text)
        return _KEY_SHAPE.sub(_MASK, text)


def one_line(text: str, limit: int) -> str:
    """The text without control characters or lone surrogates, at most `limit` characters, an ellipsis if it was cut."""
    # Cut generously first: a megabyte of text is not worth a pass of the pattern.
    clean = _UNPRINTABLE.sub(" ", text[: limit * 4]).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"

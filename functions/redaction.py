"""Masks keys in text from outside, and cleans and cuts it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_MASK = "[redacted]"
# No real key is this short, and masking one or two letters everywhere would leave no log to read.
_SHORTEST_KEY = 6
# Whatever looks like a Devin key is masked too: the rest of a key that was cut, or a key that was never ours.
# What stands before it may be an escaped character: in JSON, a line break ends in a letter.
_KEY_SHAPE = re.compile(
    r"(?:(?<![A-Za-z0-9_])|(?<=\\[abfnrtv])|(?<=\\u[0-9a-f]{4})|(?<=\\x[0-9a-f]{2})|(?<=%[0-9a-f]{2}))"
    r"(?:(?:apk|cog)_|Bearer\s+)[A-Za-z0-9_.~+/=-]+",
    re.IGNORECASE,
)
_KEY_STARTS = ("apk_", "cog_", "bearer")
# Control and separator characters, lone surrogates and non-characters: SQS refuses most of them, terminals obey some.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\ud800-\udfff\ufffe\uffff]+")


class Redactor:
    """Masks keys in texts."""

    _keys: frozenset[str] = frozenset()
    _pattern: re.Pattern[str] | None = None

    def remember(self, key: str) -> None:
        """Mask this key from now on, also where JSON or an address has escaped it, wholly or in part."""
        if len(key) >= _SHORTEST_KEY and key not in self._keys:
            self._keys |= {key}
            longest_first = sorted(self._keys, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(_spelled, longest_first)), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """The text with every known key, and whatever has the shape of one, replaced by a mask."""
        # The patterns cost a hundred times as much as looking for parts of them, which most lines have none of.
        folded = text.casefold()
        escaped = "\\" in text or "%" in text
        if self._pattern is not None and (escaped or any(key.casefold() in folded for key in self._keys)):
            text = self._pattern.sub(_MASK, text)
        return _KEY_SHAPE.sub(_MASK, text) if any(start in folded for start in _KEY_STARTS) else text


def _spelled(key: str) -> str:
    """A pattern for the key, each of its characters as it is or escaped, by JSON and addresses also more than once:
    escapers differ in which characters they escape. Bounded, because a text may be all backslashes."""
    return "".join(
        rf"(?:\\{{0,4}}{re.escape(char)}|%(?:25){{0,2}}{ord(char):02x}|\\{{1,4}}u{ord(char):04x})" for char in key
    )


class MaskedError(Exception):
    """Stands for an exception whose message held a key."""


@contextmanager
def masked_errors(redact: Redactor) -> Iterator[None]:
    """Around a handler: Lambda prints what leaves it, past the logger and its mask."""
    try:
        yield
    except Exception as error:
        said = str(error)
        if redact(said) == said:
            raise
        raise MaskedError(f"{type(error).__name__}: {redact(said)}") from None


def one_line(text: str, limit: int) -> str:
    """The text without control characters or lone surrogates, at most `limit` characters, an ellipsis if it was cut."""
    # Cut generously first: a megabyte of text is not worth a pass of the pattern.
    clean = _UNPRINTABLE.sub(" ", text[: limit * 4]).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"

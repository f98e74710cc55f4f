"""Session ids: what may stand in the path of a call that cannot be undone."""

import re

_ID = re.compile(r"devin-[A-Za-z0-9_-]{1,122}")
_HEXADECIMAL_ID = re.compile(r"(?:devin-)?([0-9A-Fa-f]{32})")
# A key that was pasted behind the prefix would travel in addresses, attributes and events.
_KEY = re.compile(r"devin-(?:apk|cog)_", re.IGNORECASE)
# The web application, and those of dedicated deployments; a tab's path, a query or a fragment may follow the id.
# https://docs.devin.ai/enterprise
_ADDRESS = re.compile(
    r"https://(?:app\.devin\.ai|[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.devinenterprise\.com)/sessions/"
    r"(?P<id>[A-Za-z0-9_-]{1,128})(?:/(?!.*\.\.)[A-Za-z0-9._~/-]*)?(?:\?[!-~]*)?(?:#[!-~]*)?"
)


class InvalidSessionIdError(ValueError):
    """This is no session id; the message says what one looks like and never repeats the input."""

    def __init__(self) -> None:
        super().__init__(
            "not a session id: expected devin- and letters, digits, - or _ (at most 128 characters), "
            "32 hexadecimal digits, or https://app.devin.ai/sessions/<id>"
        )


def parse_session_id(text: object) -> str:
    """The id in the one form that the API's path takes, `devin-…`; raises InvalidSessionIdError.

    Takes `devin-` + letters, digits, `-`, `_` (128 characters at most in all), 32 hexadecimal digits (the prefix is
    added, and in upper case they name the same session), or the address of a session. An allow-list for the whole text:
    quoting does not stop `..` from being resolved on its way.
    """
    if not isinstance(text, str):
        raise InvalidSessionIdError
    address = _ADDRESS.fullmatch(text)
    candidate = address["id"] if address else text
    if hexadecimal := _HEXADECIMAL_ID.fullmatch(candidate):
        return f"devin-{hexadecimal[1].lower()}"
    if _ID.fullmatch(candidate) and not _KEY.match(candidate):
        return candidate
    raise InvalidSessionIdError

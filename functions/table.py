"""The DynamoDB table in which both functions keep what outlasts an invocation: notices and rejections."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from timestamps import parse_timestamp

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html and API_BatchWriteItem.html
_MAX_GETS = 100
_MAX_PUTS = 25
# DynamoDB leaves some keys of a batch undone when it is busy, and asks for exponential backoff.
_ATTEMPTS = 8
_FIRST_PAUSE_SECONDS = 0.05
# A session that was rejected is tried once more then: the API may have changed.
_REJECTION_KEPT_FOR = timedelta(days=30)


class TableError(Exception):
    """The table could not be read or written, or holds what cannot be read; the message has DynamoDB's error code."""


class Table:
    """Times by name, for sessions, with a time to live in `expires`; `kind` is what they are about, the first part of
    the items' key. Every method raises TableError."""

    def __init__(self, dynamodb: Callable[[], "DynamoDBClient"], name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def get(self, kind: str, session_ids: Iterable[str]) -> dict[str, dict[str, datetime]]:
        """What there is of these sessions."""
        items: list[dict[str, Any]] = []

        def get(wanted: Any) -> Any:
            answer = self._dynamodb().batch_get_item(RequestItems=wanted)
            items.extend(answer["Responses"].get(self._name, []))
            return answer.get("UnprocessedKeys")

        for some in batched(session_ids, _MAX_GETS, strict=False):
            keys = [{"subject": {"S": f"{kind}/{session_id}"}} for session_id in some]
            _until_done("reading", get, {self._name: {"Keys": keys, "ConsistentRead": True}}, _ATTEMPTS)
        try:
            return {
                item.pop("subject")["S"].partition("/")[2]: {
                    name: parse_timestamp(one["S"]) for name, one in item.items() if "S" in one
                }
                for item in items
            }
        except ValueError as error:
            raise TableError(f"an item of the table of notices and rejections cannot be read: {error}") from None

    def put(
        self, kind: str, times: Mapping[str, Mapping[str, datetime]], expires: datetime, *, attempts: int = _ATTEMPTS
    ) -> None:
        """Write them, in place of those there are."""

        def put(wanted: Any) -> Any:
            return self._dynamodb().batch_write_item(RequestItems=wanted).get("UnprocessedItems")

        for some in batched(times.items(), _MAX_PUTS, strict=False):
            puts = []
            for session_id, named in some:
                texts = {"subject": f"{kind}/{session_id}", **{name: one.isoformat() for name, one in named.items()}}
                item: Any = {name: {"S": text} for name, text in texts.items()}
                puts.append({"PutRequest": {"Item": item | {"expires": {"N": str(int(expires.timestamp()))}}}})
            _until_done("writing", put, {self._name: puts}, attempts)


def _until_done(operation: str, call: Callable[[Any], Any], wanted: Any, attempts: int) -> None:
    """Call with what is wanted, then with what was left undone."""
    code: object = "it is busy"
    for attempt in range(attempts):
        if attempt:
            time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            wanted = call(wanted)
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"].get("Code") if isinstance(error, ClientError) else type(error).__name__
            break
        if not wanted:
            return
    raise TableError(f"{operation} the table of notices and rejections: {code}")


def remember_rejections(table: Table, rejected: Mapping[str, datetime | None], now: datetime) -> str | None:
    """Remember sessions that the API refused to end, and when they were last updated (None: unknown), so that no sweep
    asks for the same again. Best effort: tries once, and returns what went wrong instead of raising it."""
    times = {session_id: {"updated_at": moment} if moment else {} for session_id, moment in rejected.items()}
    try:
        table.put("rejected", times, now + _REJECTION_KEPT_FOR, attempts=1)
    except TableError as error:
        return str(error)
    return None


def rejections_of(table: Table, session_ids: Iterable[str]) -> dict[str, datetime | None]:
    """Those that were rejected, with the time they were last updated. Raises TableError."""
    return {session_id: times.get("updated_at") for session_id, times in table.get("rejected", session_ids).items()}

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
    """Items of texts by their key `subject`, with a time to live in `expires`. Every method raises TableError."""

    def __init__(self, dynamodb: Callable[[], "DynamoDBClient"], name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def get(self, subjects: Iterable[str]) -> dict[str, dict[str, str]]:
        """The items there are, by subject."""
        items: list[dict[str, Any]] = []

        def get(wanted: Any) -> Any:
            answer = self._dynamodb().batch_get_item(RequestItems=wanted)
            items.extend(answer["Responses"].get(self._name, []))
            return answer.get("UnprocessedKeys")

        for some in batched(subjects, _MAX_GETS, strict=False):
            keys = [{"subject": {"S": subject}} for subject in some]
            _until_done("reading", get, {self._name: {"Keys": keys, "ConsistentRead": True}}, _ATTEMPTS)
        return {item["subject"]["S"]: {name: one["S"] for name, one in item.items() if "S" in one} for item in items}

    def put(self, items: Mapping[str, Mapping[str, str]], expires: datetime, *, attempts: int = _ATTEMPTS) -> None:
        """Write the items, in place of those there are."""

        def put(wanted: Any) -> Any:
            return self._dynamodb().batch_write_item(RequestItems=wanted).get("UnprocessedItems")

        expiry = {"expires": {"N": str(int(expires.timestamp()))}}
        for some in batched(items.items(), _MAX_PUTS, strict=False):
            texts = [{"subject": subject, **item} for subject, item in some]
            puts = [{"PutRequest": {"Item": {name: {"S": item[name]} for name in item} | expiry}} for item in texts]
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
    items = {
        f"rejected/{session_id}": {"updated_at": updated_at.isoformat()} if updated_at else {}
        for session_id, updated_at in rejected.items()
    }
    try:
        table.put(items, now + _REJECTION_KEPT_FOR, attempts=1)
    except TableError as error:
        return str(error)
    return None


def rejections_of(table: Table, session_ids: Iterable[str]) -> dict[str, datetime | None]:
    """Those that were rejected, with the time they were last updated. Raises TableError."""
    items = table.get(f"rejected/{session_id}" for session_id in session_ids)
    try:
        return {
            subject.removeprefix("rejected/"): parse_timestamp(item["updated_at"]) if "updated_at" in item else None
            for subject, item in items.items()
        }
    except ValueError as error:
        raise TableError(f"a rejection cannot be read: {error}") from None

"""What was announced and when: the memory behind `notify_first`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any

from timestamps import parse_timestamp

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# After that, an announcement that led to nothing is forgotten (the table's time to live): the longest `notify_first`
# is far shorter in practice, and a session that still matches is then announced anew.
_KEPT_FOR = timedelta(days=90)
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_MOST_KEYS = 100
# DynamoDB leaves keys for later when it is busy, and some of them each time.
_MOST_READS = 20


class AnnouncementsError(Exception):
    """What was announced cannot be found out."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """That a session would be ended after `ends_after`, told at `announced_at`, when it had last been updated at
    `updated_at`."""

    announced_at: datetime
    ends_after: datetime
    updated_at: datetime


class Announcements:
    """A DynamoDB table with an item for each policy and session: `{subject, announced_at, ends_after, updated_at,
    expires}`.

    Raises AnnouncementsError, and botocore's ClientError or BotoCoreError: without its memory a sweep must not go on.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, policy: str) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._policy = policy

    def of(self, session_ids: Iterable[str]) -> Mapping[str, Announcement]:
        """The announcements there are of these sessions, under this policy."""
        found: dict[str, Announcement] = {}
        for some in batched(session_ids, _MOST_KEYS, strict=False):
            wanted: Any = {self._table: {"Keys": [self._key(one) for one in some], "ConsistentRead": True}}
            for _ in range(_MOST_READS):
                answer = self._dynamodb.batch_get_item(RequestItems=wanted)
                for item in answer["Responses"].get(self._table, []):
                    session_id = item["subject"]["S"].partition("/")[2]
                    found[session_id] = Announcement(
                        *(parse_timestamp(item[name]["S"]) for name in ("announced_at", "ends_after", "updated_at"))
                    )
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
            else:
                raise AnnouncementsError("the table of announcements has no time; nothing was enqueued")
        return found

    def add(self, session_id: str, announcement: Announcement) -> None:
        """Remember, in place of an earlier announcement of the same session."""
        self._dynamodb.put_item(
            TableName=self._table,
            Item={
                **self._key(session_id),
                "announced_at": {"S": announcement.announced_at.astimezone(UTC).isoformat()},
                "ends_after": {"S": announcement.ends_after.astimezone(UTC).isoformat()},
                "updated_at": {"S": announcement.updated_at.astimezone(UTC).isoformat()},
                "expires": {"N": str(int((announcement.announced_at + _KEPT_FOR).timestamp()))},
            },
        )

    def _key(self, session_id: str) -> dict[str, Any]:
        return {"subject": {"S": f"{self._policy}/{session_id}"}}

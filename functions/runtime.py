"""What a function keeps from one invocation to the next: clients, connections, threads, the cached key."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Thread
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

import tls
from cached import cached
from devin.api_key import ApiKeyError, parse_api_key
from devin.http import Transport
from queues import Queues
from settings import Settings
from stop_switch import stop_switch
from table import Table

# No session depends on an event: one that is not taken at once must not use up the time for what does.
_BUS_CONFIG = Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1})
# What reading key and switch may take of the ten seconds that Lambda gives for initialisation.
_FIRST_READS_SECONDS = 3
# How long a key stays in use after it was replaced in the secret, unless the API refuses it before.
_KEY_CACHE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts that outlive an invocation. `fetch_key(fresh)` raises ApiKeyError, and caches unless `fresh`.
    `reason_to_stop()` is None for go."""

    transport: Transport
    queues: Queues
    executor: Executor
    fetch_key: Callable[[bool], str]
    reason_to_stop: Callable[[], str | None]
    events: Callable[[], Any]
    table: Table | None


@lru_cache(maxsize=1)
def runtime_for(settings: Settings) -> Runtime:
    """The same runtime as long as the settings stay the same."""
    tls.share_with_botocore()
    config = Config(
        # AWS answers in milliseconds; what does not within seconds has to leave time for handing the work back.
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=settings.max_workers,
    )
    # A client is a good part of a cold start, and few invocations use these.
    dynamodb = cache(lambda: boto3.client("dynamodb", config=config))
    eventbridge = cache(lambda: boto3.client("events", config=config.merge(_BUS_CONFIG)))
    table = Table(dynamodb, settings.announcements_table) if settings.announcements_table else None
    return Runtime(
        transport=Transport(settings.devin_api_url),
        queues=Queues(
            boto3.client("sqs", config=config),
            work_queue_url=settings.work_queue_url,
            dead_letter_queue_url=settings.dead_letter_queue_url,
        ),
        executor=ThreadPoolExecutor(settings.max_workers, thread_name_prefix="worker"),
        fetch_key=_key_reader(settings.api_key_secret_arn, config),
        reason_to_stop=_switch(settings.stop_switch_parameter, config),
        events=eventbridge,
        table=table,
    )


def initialise(environ: Mapping[str, str]) -> None:
    """Make clients and TLS context, and read key and switch, as the module of a handler is imported: Lambda gives a
    function a whole CPU then, and a share of one afterwards. An error is met again, and reported, by the invocation."""

    def read(runtime: Runtime) -> None:
        with suppress(Exception):
            runtime.reason_to_stop()
            runtime.fetch_key(False)

    with suppress(Exception):
        reads = Thread(target=read, args=[runtime_for(Settings.from_environment(environ))], daemon=True)
        reads.start()
        reads.join(_FIRST_READS_SECONDS)


def _switch(parameter: str | None, config: Config) -> Callable[[], str | None]:
    if parameter is None:
        return lambda: None
    ssm = boto3.client("ssm", config=config)
    return stop_switch(lambda: ssm.get_parameter(Name=parameter)["Parameter"]["Value"], parameter)


def _key_reader(secret: str, config: Config) -> Callable[[bool], str]:
    secrets = boto3.client("secretsmanager", config=config)

    def read() -> str:
        answer = secrets.get_secret_value(SecretId=secret)
        return parse_api_key(answer.get("SecretString") or answer.get("SecretBinary", b""))

    get = cached(read, _KEY_CACHE_SECONDS)

    def fetch(fresh: bool) -> str:
        try:
            return get(fresh)
        except (ClientError, BotoCoreError) as error:
            raise ApiKeyError(
                f"the secret cannot be read ({error}); check that API_KEY_SECRET_ARN names it, that it holds a value, "
                "and that the function's role may call secretsmanager:GetSecretValue on it (and kms:Decrypt on its key)"
            ) from None

    return fetch

"""What `doctor` checks, one function each: findings with what to do about them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from devin.api_key import ApiKeyError, parse_api_key
from devin.error_detail import error_detail
from devin.http import Reply, Transport, TransportError
from devin.version import V3, version_of
from infra.ops.account import Account
from infra.ops.deployment import Deployment, resource_of
from infra.ops.depth import depth_of
from infra.ops.mapping import EventSource, mapping_of
from infra.ops.output import count
from infra.ops.permissions import denied, roles_of
from infra.ops.problems import FoundError, code_of, said
from infra.ops.schedules import planned
from infra.ops.switch import read_switch
from redaction import Redactor, one_line
from settings import Settings, SettingsError

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

# As the sweep, which refuses to judge ages beyond it.
_MOST_SKEW_SECONDS = 300.0
# AWS refuses signatures that are older.
_SKEW_WORTH_A_WORD = 60.0
_PROBE_SECONDS = 10.0
_PROBE_BYTES = 64 * 1024


# Somebody deleted what the stack had made.
_GONE = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchEntity",
    "NotFound",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
}


class Status(StrEnum):
    """From what is best to what is worst."""

    OK = "ok"
    WARNING = "warning"
    # It could not be looked at.
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `remedy` says what to do unless all is well."""

    check: str
    status: Status
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"check": self.check, "status": self.status.value, "found": self.found, "remedy": self.remedy}


class StackSnapshot:
    """The stack, and what several checks ask of it, asked once. `command` is what to call this command in remedies."""

    def __init__(self, account: Account, deployment: Deployment, now: Callable[[], datetime], command: str) -> None:
        self.account = account
        self.deployment = deployment
        self.now = now
        self.command = command

    @cached_property
    def terminate(self) -> FunctionConfigurationResponseTypeDef:
        """As the work queue invokes it: a gradual deployment has an alias in front, whose version may be another than
        what was deployed last."""
        name = self.deployment.output("TerminateFunctionName")
        if self.mapping is None or self.mapping.qualifier is None:
            return self.account.lambda_.get_function_configuration(FunctionName=name)
        return self.account.lambda_.get_function_configuration(FunctionName=name, Qualifier=self.mapping.qualifier)

    @cached_property
    def sweep(self) -> FunctionConfigurationResponseTypeDef:
        return self.account.lambda_.get_function_configuration(FunctionName=self.deployment.output("SweepFunctionName"))

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment(self.terminate.get("Environment", {}).get("Variables", {}))

    @cached_property
    def mapping(self) -> EventSource | None:
        return mapping_of(self.account.lambda_, self.deployment)

    @cached_property
    def key_id(self) -> str | None:
        """Of the stack's own KMS key, if it has one."""
        if self.deployment.parameters.get("UseCustomerManagedKey") != "true":
            return None
        return resource_of(self.account.cloudformation, self.deployment.name, "Key")

    @cached_property
    def key(self) -> str:
        """The API key, for one call; raises ApiKeyError."""
        answer = self.account.secretsmanager.get_secret_value(SecretId=self.deployment.output("ApiKeySecretArn"))
        return parse_api_key(answer.get("SecretString") or answer.get("SecretBinary", b""))

    def attributes(self, queue_url: str) -> Mapping[str, str]:
        attributes: Mapping[str, str] = self.account.sqs.get_queue_attributes(
            QueueUrl=queue_url, AttributeNames=["All"]
        )["Attributes"]  # type: ignore[assignment]
        return attributes


type Check = Callable[[StackSnapshot], Iterator[Finding]]


def examine(patient: StackSnapshot, *, call_api: bool) -> Iterator[Finding]:
    """Every check in turn; one that cannot be made says why."""
    for name, check in CHECKS.items():
        if check is _api and not call_api:
            continue
        try:
            yield from check(patient)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and code_of(error) in _GONE:
                yield Finding(name, Status.FAILED, f"is gone: {said(error)}", "deploy the template again")
                continue
            yield Finding(name, Status.UNKNOWN, f"could not be checked: {said(error)}", "ask with other credentials")
        except SettingsError as error:
            yield Finding(name, Status.FAILED, f"the function refuses its environment: {error}", "deploy it again")
        except ApiKeyError:
            yield Finding(name, Status.UNKNOWN, "could not be checked without a usable key", "see the check `secret`")
        except FoundError as error:
            yield Finding(name, Status.FAILED, str(error), "deploy the current template (sam build, sam deploy)")


def _stack(patient: StackSnapshot) -> Iterator[Finding]:
    status = patient.deployment.status
    if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        yield Finding("stack", Status.OK, f"{patient.deployment.name} is {status}")
    elif re.fullmatch(r"(CREATE|UPDATE|UPDATE_COMPLETE_CLEANUP)_IN_PROGRESS", status):
        yield Finding("stack", Status.WARNING, f"{patient.deployment.name} is {status}", "look again when that is done")
    else:
        yield Finding(
            "stack",
            Status.FAILED,
            f"{patient.deployment.name} is {status}",
            "look at its events, then sam deploy again",
        )
    if patient.settings.dry_run:
        yield Finding(
            "stack", Status.WARNING, "DryRun is true: messages are consumed and nothing is ended", "deploy DryRun=false"
        )


def _secret(patient: StackSnapshot) -> Iterator[Finding]:
    try:
        key = patient.key
    except ApiKeyError as error:
        yield Finding("secret", Status.FAILED, str(error), "store the key: README, Deploy it")
        return
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        yield Finding(
            "secret", Status.FAILED, "there is no such secret, or it has no value", "store the key: README, Deploy it"
        )
        return
    version = 3 if version_of(key) is V3 else 1
    yield Finding("secret", Status.OK, f"holds a key of version {version} (not shown)")
    if version == 3 and patient.settings.devin_org_id is None:
        yield Finding(
            "secret", Status.FAILED, "a cog_ key needs an organisation, and DevinOrgId is empty", "deploy DevinOrgId"
        )
    if version == 1:
        yield Finding(
            "secret",
            Status.WARNING,
            "version 1 of the API is legacy: it will be switched off some day",
            "deploy DevinOrgId, then store a cog_ key",
        )


def _api(patient: StackSnapshot) -> Iterator[Finding]:
    settings, key = patient.settings, patient.key
    if version_of(key) is V3:
        if settings.devin_org_id is None:
            yield Finding("api", Status.WARNING, "not called: there is no organisation to ask for", "deploy DevinOrgId")
            return
        path, params = f"/v3/organizations/{settings.devin_org_id}/sessions", {"first": "1"}
    else:
        path, params = "/v1/sessions", {"limit": "1", "offset": "0"}
    where = f"GET {settings.devin_api_url}{path} from this machine"
    try:
        reply = Transport(settings.devin_api_url).request(
            "GET", path, key=key, params=params, seconds=_PROBE_SECONDS, keep_bytes=_PROBE_BYTES
        )
    except TransportError as error:
        yield Finding(
            "api", Status.FAILED, f"{where}: {error}", "check the address, the network and the API's status page"
        )
        return
    redact = Redactor()
    redact.remember(key)
    yield _answer(reply, where, redact)
    yield from _retirement(reply)
    yield from _api_clock(reply, patient.now())


def _answer(reply: Reply, where: str, redact: Redactor) -> Finding:
    detail = one_line(redact(error_detail(reply.body) or "no explanation"), 200)
    told = f"{where}: {reply.status}"
    match reply.status:
        case status if 200 <= status < 300:
            return Finding("api", Status.OK, f"{told}; the key is valid")
        case 401 | 403:
            return Finding("api", Status.FAILED, f"{told}: {detail}", "store a valid key: README, Rotate the key")
        case 404 | 410:
            return Finding(
                "api",
                Status.FAILED,
                f"{told}: this version of the API is switched off, or the address or organisation is wrong: {detail}",
                "check DevinApiUrl and DevinOrgId; go to version 3 with a cog_ key",
            )
        case 429:
            return Finding("api", Status.WARNING, f"{told}: the API is being asked too often", "try again in a minute")
        case _:
            return Finding("api", Status.FAILED, f"{told}: {detail}", "check the API's status page")


def _retirement(reply: Reply) -> Iterator[Finding]:
    """RFC 8594 and RFC 9745."""
    said_so = {name: reply.headers[name] for name in ("Sunset", "Deprecation") if name in reply.headers}
    if said_so:
        told = ", ".join(f"{name}: {one_line(value, 60)}" for name, value in said_so.items())
        yield Finding(
            "api version", Status.WARNING, f"the API announces its end: {told}", "go to version 3: README, Deploy it"
        )
    elif 200 <= reply.status < 300:
        yield Finding("api version", Status.OK, "the API does not announce its end")


def _api_clock(reply: Reply, now: datetime) -> Iterator[Finding]:
    if (skew := _skew(reply.headers.get("Date"), now)) is None:
        return
    if skew > _MOST_SKEW_SECONDS:
        yield Finding(
            "clock",
            Status.FAILED,
            f"the API's clock and this machine's differ by {skew:.0f} s",
            "set this machine's clock; if it is right, sweeps refuse to judge ages until the API's is",
        )
    else:
        yield Finding("clock", Status.OK, f"the API's clock is within {skew:.0f} s of this machine's")


def _aws_clock(patient: StackSnapshot) -> Iterator[Finding]:
    answer = patient.account.sqs.get_queue_attributes(
        QueueUrl=patient.deployment.work_queue_url, AttributeNames=["QueueArn"]
    )
    skew = _skew(answer["ResponseMetadata"]["HTTPHeaders"].get("date"), patient.now())
    if skew is not None and skew > _SKEW_WORTH_A_WORD:
        yield Finding(
            "clock", Status.WARNING, f"AWS's clock and this machine's differ by {skew:.0f} s", "set the clock"
        )


def _skew(date: str | None, now: datetime) -> float | None:
    try:
        theirs = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - now).total_seconds())


def _permissions(patient: StackSnapshot) -> Iterator[Finding]:
    """What the code calls, held against what the roles allow."""
    for role in roles_of(patient):
        name, missing = f"permissions of {role.whose}", denied(patient.account.iam, role.arn, role.needs)
        if missing:
            yield Finding(
                name,
                Status.FAILED,
                f"{role.arn} may not {'; '.join(missing)}",
                "deploy the template again; look for a boundary or SCP",
            )
        else:
            yield Finding(name, Status.OK, "the role may do all that is needed")


def _key(patient: StackSnapshot) -> Iterator[Finding]:
    for key in filter(None, (patient.key_id, patient.deployment.parameters.get("ExistingApiKeySecretKmsKeyArn"))):
        state = patient.account.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        if state == "Enabled":
            yield Finding("key", Status.OK, f"the KMS key {key} is enabled")
        else:
            yield Finding(
                "key",
                Status.FAILED,
                f"the KMS key {key} is {state}: what it encrypts can be neither read nor written",
                "enable it, or cancel its deletion",
            )


def _mapping(patient: StackSnapshot) -> Iterator[Finding]:
    name, mapping = "event source mapping", patient.mapping
    if mapping is None:
        yield Finding(name, Status.FAILED, "the work queue has no mapping to the function", "deploy the template again")
        return
    if mapping.state in {"Disabled", "Disabling"}:
        yield Finding(
            name,
            Status.FAILED,
            f"it is {mapping.state}: messages wait, for four days",
            f"aws lambda update-event-source-mapping --uuid {mapping.uuid} --enabled",
        )
    elif mapping.state != "Enabled":
        yield Finding(name, Status.WARNING, f"it is {mapping.state}", "look again in a minute")
    if not mapping.reports_failures:
        yield Finding(
            name,
            Status.FAILED,
            "ReportBatchItemFailures is off: what the function reports as failed is taken as done",
            "deploy the template again",
        )
    if (result := mapping.last_result or "").startswith("PROBLEM"):
        yield Finding(name, Status.FAILED, result, "look at the role and the function's log")
    elif mapping.state == "Enabled" and mapping.reports_failures:
        yield Finding(name, Status.OK, f"enabled, invokes {mapping.invokes}, and failures are reported one by one")


def _queues(patient: StackSnapshot) -> Iterator[Finding]:
    work = patient.attributes(patient.deployment.work_queue_url)
    letters = patient.attributes(patient.deployment.dead_letter_queue_url)
    window = patient.mapping.window_seconds if patient.mapping else 0
    least, visibility = 6 * patient.terminate["Timeout"] + window, int(work["VisibilityTimeout"])
    again = "set it back, or deploy the template again"
    if visibility < least:
        yield Finding(
            "visibility timeout",
            Status.FAILED,
            f"{visibility} s, less than six times the function's timeout and the batch window ({least} s): messages "
            "may be delivered while they are worked on",
            again,
        )
    else:
        yield Finding("visibility timeout", Status.OK, f"{visibility} s, at least {least} s")
    policy = json.loads(work.get("RedrivePolicy", "{}"))
    if policy.get("deadLetterTargetArn") != patient.deployment.dead_letter_queue_arn:
        yield Finding("redrive policy", Status.FAILED, "the work queue does not redrive to the dead letters", again)
    elif (receives := int(policy.get("maxReceiveCount", 0))) < 5:
        # The function sends a stopped message anew at its fourth receive.
        yield Finding("redrive policy", Status.FAILED, f"maxReceiveCount is {receives}, less than 5", again)
    else:
        yield Finding("redrive policy", Status.OK, f"dead letters after {receives} receives")
    kept, waits = int(letters["MessageRetentionPeriod"]), int(work["MessageRetentionPeriod"])
    told = f"dead letters are kept for {kept / 86_400:g} days, work for {waits / 86_400:g}"
    if kept <= waits:
        yield Finding("retention", Status.FAILED, f"{told}: what is moved late is lost at once", again)
    else:
        yield Finding("retention", Status.OK, told)


def _switch(patient: StackSnapshot) -> Iterator[Finding]:
    switch = read_switch(patient.account.ssm, patient.deployment.output("StopSwitchParameterName"))
    if switch.goes:
        yield Finding("stop switch", Status.OK, "go")
    else:
        yield Finding("stop switch", Status.FAILED, f"on: {switch.value}", f"{patient.command} go, if that is over")


def _letters(patient: StackSnapshot) -> Iterator[Finding]:
    number = depth_of(patient.account.sqs, patient.deployment.dead_letter_queue_url).total
    if number:
        yield Finding("dead letters", Status.FAILED, f"{number}", f"{patient.command} dead-letters list")
    else:
        yield Finding("dead letters", Status.OK, "none")


def _schedules(patient: StackSnapshot) -> Iterator[Finding]:
    physical = resource_of(patient.account.cloudformation, patient.deployment.name, "PeriodicSweep")
    schedule = patient.account.scheduler.get_schedule(Name=physical.rsplit("/", 1)[-1].rsplit("|", 1)[-1])
    wanted = "ENABLED" if patient.deployment.parameters.get("SweepEnabled") == "true" else "DISABLED"
    if schedule["State"] != wanted:
        yield Finding(
            "schedules",
            Status.WARNING,
            f"the periodic sweep is {schedule['State']}, deployed as {wanted}",
            "somebody changed it: set SweepEnabled by a deployment",
        )
    else:
        yield Finding("schedules", Status.OK, f"the periodic sweep is {wanted}, as deployed")
    for one in planned(patient.account.scheduler, patient.deployment):
        if one.state != "ENABLED":
            yield Finding("schedules", Status.WARNING, f"{one.name} is {one.state}", "enable it, or schedule cancel")


def _alarm_topic(patient: StackSnapshot) -> Iterator[Finding]:
    if patient.deployment.parameters.get("Observability") == "false":
        yield Finding("alarm topic", Status.OK, "none: deployed with Observability=false")
        return
    topic = patient.deployment.output("AlarmTopicArn")
    subscribed = [
        subscription["SubscriptionArn"]
        for page in patient.account.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        for subscription in page["Subscriptions"]
    ]
    if confirmed := sum(1 for one in subscribed if one.startswith("arn:")):
        yield Finding("alarm topic", Status.OK, f"{count(confirmed, 'confirmed subscription')}")
    else:
        waiting = f", {count(len(subscribed), 'subscription')} not confirmed yet" if subscribed else ""
        yield Finding(
            "alarm topic",
            Status.WARNING,
            f"nobody is told of an alarm{waiting}",
            "confirm by the link in the e-mail; deploy AlarmEmail, or subscribe to the output AlarmTopicArn",
        )


CHECKS: Mapping[str, Check] = {
    "stack": _stack,
    "secret": _secret,
    "api": _api,
    "permissions": _permissions,
    "key": _key,
    "event source mapping": _mapping,
    "queues": _queues,
    "stop switch": _switch,
    "dead letters": _letters,
    "schedules": _schedules,
    "alarm topic": _alarm_topic,
    "clock": _aws_clock,
}


def worst(findings: Iterable[Finding]) -> Status:
    statuses = {finding.status for finding in findings}
    return next((status for status in reversed(Status) if status in statuses), Status.OK)


def is_blind(findings: Iterable[Finding]) -> bool:
    """Whether nothing could be looked at, but for what CloudFormation says of the stack."""
    return all(finding.status is Status.UNKNOWN for finding in findings if finding.check != "stack")

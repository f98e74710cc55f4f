"""What `doctor` checks, one function each: findings with what to do about them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

from botocore.exceptions import BotoCoreError, ClientError

from devin.api_key import ApiKeyError
from devin.version import V3, version_of
from infra.ops.api_check import check_api, check_from_aws, skew_seconds
from infra.ops.deployment import resource_of
from infra.ops.depth import depth_of
from infra.ops.findings import Finding, Status
from infra.ops.output import count
from infra.ops.permissions import denied, roles_of
from infra.ops.problems import FoundError, code_of, said
from infra.ops.schedules import planned
from infra.ops.snapshot import StackSnapshot
from infra.ops.switch import read_switch
from settings import SettingsError

# AWS refuses signatures that are older.
_SKEW_WORTH_A_WORD = 60.0
# Error codes for what the stack made and somebody deleted later.
_GONE = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchEntity",
    "NotFound",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
}


type Check = Callable[[StackSnapshot], Iterator[Finding]]


def examine(stack: StackSnapshot, *, call_api: bool, ask_function: bool) -> Iterator[Finding]:
    """Every check in turn; one that cannot be made says why."""
    for name, check in CHECKS.items():
        if (check is check_api and not call_api) or (check is check_from_aws and not ask_function):
            continue
        try:
            yield from check(stack)
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


def _stack(stack: StackSnapshot) -> Iterator[Finding]:
    status = stack.deployment.status
    if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        yield Finding("stack", Status.OK, f"{stack.deployment.name} is {status}")
    elif re.fullmatch(r"(CREATE|UPDATE|UPDATE_COMPLETE_CLEANUP)_IN_PROGRESS", status):
        yield Finding("stack", Status.WARNING, f"{stack.deployment.name} is {status}", "look again when that is done")
    else:
        yield Finding(
            "stack",
            Status.FAILED,
            f"{stack.deployment.name} is {status}",
            "look at its events, then sam deploy again",
        )
    if stack.settings.dry_run:
        yield Finding(
            "stack", Status.WARNING, "DryRun is true: messages are consumed and nothing is ended", "deploy DryRun=false"
        )


def _secret(stack: StackSnapshot) -> Iterator[Finding]:
    try:
        key = stack.key
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
    is_v3 = version_of(key) is V3
    if not key.startswith(("apk_", "cog_")):
        yield Finding(
            "secret", Status.WARNING, "it begins with neither apk_ nor cog_", "check that this is a Devin API key"
        )
    yield Finding("secret", Status.OK, f"holds a key of version {3 if is_v3 else 1} (not shown)")
    if is_v3 and stack.settings.devin_org_id is None:
        yield Finding(
            "secret", Status.FAILED, "a cog_ key needs an organisation, and DevinOrgId is empty", "deploy DevinOrgId"
        )
    if not is_v3:
        yield Finding(
            "secret",
            Status.WARNING,
            "version 1 of the API is legacy: it will be switched off some day",
            "deploy DevinOrgId, then store a cog_ key",
        )


def _aws_clock(stack: StackSnapshot) -> Iterator[Finding]:
    answer = stack.account.sqs.get_queue_attributes(
        QueueUrl=stack.deployment.work_queue_url, AttributeNames=["QueueArn"]
    )
    skew = skew_seconds(answer["ResponseMetadata"]["HTTPHeaders"].get("date"), stack.now())
    if skew is not None and skew > _SKEW_WORTH_A_WORD:
        yield Finding(
            "clock", Status.WARNING, f"AWS's clock and this machine's differ by {skew:.0f} s", "set the clock"
        )


def _permissions(stack: StackSnapshot) -> Iterator[Finding]:
    """What the code calls, held against what the roles allow."""
    for role in roles_of(stack):
        name, missing = f"permissions of {role.whose}", denied(stack.account.iam, role.arn, role.needs)
        if missing:
            yield Finding(
                name,
                Status.FAILED,
                f"{role.arn} may not {'; '.join(missing)}",
                "deploy the template again; look for a boundary or SCP",
            )
        else:
            yield Finding(name, Status.OK, "the role may do all that is needed")


def _key(stack: StackSnapshot) -> Iterator[Finding]:
    if stack.deployment.parameters.get("UseCustomerManagedKey") == "true":
        key = resource_of(stack.account.cloudformation, stack.deployment.name, "Key")
        state = stack.account.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        if state == "Enabled":
            yield Finding("key", Status.OK, f"the KMS key {key} is enabled")
        else:
            yield Finding(
                "key",
                Status.FAILED,
                f"the KMS key {key} is {state}: what it encrypts can be neither read nor written",
                "enable it, or cancel its deletion",
            )
        return
    queued = sum(
        depth_of(stack.account.sqs, url).total
        for url in (stack.deployment.work_queue_url, stack.deployment.dead_letter_queue_url)
    )
    if not queued:
        return
    # A key that the stack had before the parameter was set to false keeps its tags, and may have encrypted what waits.
    pages = stack.account.tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": "aws:cloudformation:stack-name", "Values": [stack.deployment.name]}],
        ResourceTypeFilters=["kms:key"],
    )
    for arn in [one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"]]:
        state = stack.account.kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
        yield Finding(
            "key",
            Status.WARNING if state == "Enabled" else Status.FAILED,
            f"{arn}, which is no longer used, is {state}, and {count(queued, 'message')} may be encrypted with it",
            "keep it enabled until both queues are empty",
        )


def _mapping(stack: StackSnapshot) -> Iterator[Finding]:
    name, mapping = "event source mapping", stack.mapping
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


def _queues(stack: StackSnapshot) -> Iterator[Finding]:
    work = stack.attributes(stack.deployment.work_queue_url)
    letters = stack.attributes(stack.deployment.dead_letter_queue_url)
    window = stack.mapping.window_seconds if stack.mapping else 0
    least, visibility = 6 * stack.terminate["Timeout"] + window, int(work["VisibilityTimeout"])
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
    if policy.get("deadLetterTargetArn") != stack.deployment.dead_letter_queue_arn:
        yield Finding("redrive policy", Status.FAILED, "the work queue does not redrive to the dead letters", again)
    elif (receives := int(policy.get("maxReceiveCount", 0))) < 5:
        # The function requeues a message that it could not call for at its fourth receive.
        yield Finding("redrive policy", Status.FAILED, f"maxReceiveCount is {receives}, less than 5", again)
    else:
        yield Finding("redrive policy", Status.OK, f"dead letters after {receives} receives")
    kept, waits = int(letters["MessageRetentionPeriod"]), int(work["MessageRetentionPeriod"])
    periods = f"dead letters are kept for {kept / 86_400:g} days, work for {waits / 86_400:g}"
    if kept <= waits:
        yield Finding("retention", Status.FAILED, f"{periods}: what is moved late is lost at once", again)
    else:
        yield Finding("retention", Status.OK, periods)


def _switch(stack: StackSnapshot) -> Iterator[Finding]:
    switch = read_switch(stack.account.ssm, stack.deployment.output("StopSwitchParameterName"))
    if switch.goes:
        yield Finding("stop switch", Status.OK, "go")
    else:
        yield Finding("stop switch", Status.FAILED, f"on: {switch.value}", f"{stack.command} go, if that is over")


def _letters(stack: StackSnapshot) -> Iterator[Finding]:
    number = depth_of(stack.account.sqs, stack.deployment.dead_letter_queue_url).total
    if number:
        yield Finding("dead letters", Status.FAILED, f"{number}", f"{stack.command} dead-letters list")
    else:
        yield Finding("dead letters", Status.OK, "none")


def _schedules(stack: StackSnapshot) -> Iterator[Finding]:
    physical = resource_of(stack.account.cloudformation, stack.deployment.name, "PeriodicSweep")
    schedule = stack.account.scheduler.get_schedule(Name=physical.rsplit("/", 1)[-1].rsplit("|", 1)[-1])
    wanted = "ENABLED" if stack.deployment.parameters.get("SweepEnabled") == "true" else "DISABLED"
    if schedule["State"] != wanted:
        yield Finding(
            "schedules",
            Status.WARNING,
            f"the periodic sweep is {schedule['State']}, deployed as {wanted}",
            "somebody changed it: set SweepEnabled by a deployment",
        )
    else:
        yield Finding("schedules", Status.OK, f"the periodic sweep is {wanted}, as deployed")
    for one in planned(stack.account.scheduler, stack.deployment):
        if one.state != "ENABLED":
            yield Finding(
                "schedules",
                Status.WARNING,
                f"{one.name} is {one.state}",
                f"enable it, or {stack.command} schedule cancel {one.name}",
            )


def _alarm_topic(stack: StackSnapshot) -> Iterator[Finding]:
    topic = stack.deployment.outputs.get("AlarmTopicArn")
    if topic is None:
        yield Finding("alarm topic", Status.WARNING, "there are no alarms", "deploy AlarmEmail or AlarmTopicArn")
        return
    subscribed = [
        subscription["SubscriptionArn"]
        for page in stack.account.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        for subscription in page["Subscriptions"]
    ]
    if confirmed := sum(1 for one in subscribed if one.startswith("arn:")):
        yield Finding("alarm topic", Status.OK, f"{count(confirmed, 'confirmed subscription')}")
    else:
        waiting = f", {count(len(subscribed), 'subscription')} not confirmed yet" if subscribed else ""
        yield Finding(
            "alarm topic",
            Status.WARNING,
            f"no subscriber is notified of an alarm{waiting}",
            "confirm by the link in the e-mail, or subscribe to the output AlarmTopicArn",
        )


CHECKS: Mapping[str, Check] = {
    "stack": _stack,
    "secret": _secret,
    "api": check_api,
    "api from AWS": check_from_aws,
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

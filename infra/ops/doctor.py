"""What `doctor` checks, one function each: findings with what to do about them."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from devin.api_key import ApiKeyError
from devin.version import V3, version_of
from infra.ops.api_check import check_api, check_from_aws, skew_seconds
from infra.ops.deployment import resource_of
from infra.ops.depth import depth_of
from infra.ops.output import count
from infra.ops.problems import FoundError, code_of, said
from infra.ops.schedules import planned
from infra.ops.snapshot import Finding, StackSnapshot, failed, ok, unknown, verdict, warning
from infra.ops.switch import read_switch
from settings import SettingsError

# AWS refuses a signature whose time is minutes off.
_SKEW_WORTH_A_WORD = 60.0
_SEND = ("sqs:SendMessage",)
_RECEIVE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility")
# Error codes for what the stack made and somebody deleted later.
_GONE = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchEntity",
    "NotFound",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
}

# Actions by resource. Use of the stack's KMS key is granted by the key's policy, which a simulation does not read.
type Needs = Mapping[str, Sequence[str]]


def examine(stack: StackSnapshot, *, call_api: bool, ask_function: bool) -> Iterator[Finding]:
    """Every check in turn; one that cannot be made says why."""
    for name, check in CHECKS.items():
        if (check is check_api and not call_api) or (check is check_from_aws and not ask_function):
            continue
        try:
            yield from check(stack)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and code_of(error) in _GONE:
                yield failed(name, f"is gone: {said(error)}", "deploy the template again")
                continue
            yield unknown(name, f"could not be checked: {said(error)}", "ask with other credentials")
        except SettingsError as error:
            yield failed(name, f"the function refuses its environment: {error}", "deploy it again")
        except ApiKeyError as error:
            yield failed(name, str(error), "store the key: README, Deploy it")
        except FoundError as error:
            yield failed(name, str(error), "deploy the current template (sam build, sam deploy)")


def _stack(stack: StackSnapshot) -> Iterator[Finding]:
    status = stack.deployment.status
    found = f"{stack.deployment.name} is {status}"
    if re.fullmatch(r"(CREATE|UPDATE|UPDATE_COMPLETE_CLEANUP)_IN_PROGRESS", status):
        yield warning("stack", found, "check again when that is done")
    else:
        good = status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
        yield verdict("stack", good=good, found=found, remedy="look at its events, then sam deploy again")
    if stack.settings.dry_run:
        yield warning("stack", "DryRun is true: messages are consumed and nothing is ended", "deploy DryRun=false")


def _secret(stack: StackSnapshot) -> Iterator[Finding]:
    key = stack.key
    is_v3 = version_of(key) is V3
    if not key.startswith(("apk_", "cog_")):
        yield warning("secret", "it begins with neither apk_ nor cog_", "check that this is a Devin API key")
    yield ok("secret", f"holds a key of version {3 if is_v3 else 1} (not shown)")
    if is_v3 and stack.settings.devin_org_id is None:
        yield failed("secret", "a cog_ key needs an organisation, and DevinOrgId is empty", "deploy DevinOrgId")
    if not is_v3:
        yield warning(
            "secret",
            "version 1 of the API is legacy: it will be switched off some day",
            "deploy DevinOrgId, then store a cog_ key",
        )


def _roles(stack: StackSnapshot) -> Iterator[tuple[str, str, Needs]]:
    """Whose role it is, its ARN, and what it needs; raises what botocore raises, and as `output` does."""
    deployment = stack.deployment
    work, letters = deployment.work_queue_arn, deployment.dead_letter_queue_arn
    _, partition, _, region, account, _ = work.split(":", 5)

    def arn(service: str, resource: str) -> str:
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    table = arn("dynamodb", f"table/{deployment.output('AnnouncementsTableName')}")
    publish = {arn("events", "event-bus/default"): ["events:PutEvents"]}
    both = {
        deployment.output("ApiKeySecretArn"): ["secretsmanager:GetSecretValue"],
        arn("ssm", f"parameter{deployment.output('StopSwitchParameterName')}"): ["ssm:GetParameter"],
    }
    terminate = {work: [*_RECEIVE, *_SEND], letters: _SEND, table: ["dynamodb:BatchWriteItem"]}
    if stack.settings.publish_outcomes:
        terminate |= publish
    yield "terminate", stack.terminate["Role"], both | terminate
    sweep = {work: _SEND, table: ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"]}
    yield "sweep", stack.sweep["Role"], both | sweep | publish
    yield "one-time schedules", deployment.output("OneTimeScheduleRoleArn"), {work: _SEND, letters: _SEND}
    invoke = {deployment.output("SweepFunctionArn"): ["lambda:InvokeFunction"]}
    yield "the sweep's schedule", deployment.output("SweepScheduleRoleArn"), invoke


def _permissions(stack: StackSnapshot) -> Iterator[Finding]:
    for whose, role, needs in _roles(stack):
        missing = []
        for arn, actions in needs.items():
            results = stack.account.iam.simulate_principal_policy(
                PolicySourceArn=role, ActionNames=actions, ResourceArns=[arn]
            )["EvaluationResults"]
            missing += [f"{one['EvalActionName']} on {arn}" for one in results if one["EvalDecision"] != "allowed"]
        found = f"{role} may not {'; '.join(missing)}" if missing else "the role may do all that is needed"
        remedy = "deploy the template again; look for a boundary or SCP"
        yield verdict(f"permissions of {whose}", good=not missing, found=found, remedy=remedy)


def _key(stack: StackSnapshot) -> Iterator[Finding]:
    if stack.deployment.parameters.get("UseCustomerManagedKey") == "true":
        key = resource_of(stack.account.cloudformation, stack.deployment.name, "Key")
        state = stack.account.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        found, remedy = f"the KMS key {key} is {state}", "enable it, or cancel its deletion: the queues are encrypted"
        yield verdict("key", good=state == "Enabled", found=found, remedy=remedy)
        return
    deployment = stack.deployment
    queues = (deployment.work_queue_url, deployment.dead_letter_queue_url)
    if not (queued := sum(depth_of(stack.account.sqs, url).total for url in queues)):
        return
    # The stack's earlier key keeps its tags, and waiting messages may be encrypted with it.
    pages = stack.account.tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": "aws:cloudformation:stack-name", "Values": [deployment.name]}],
        ResourceTypeFilters=["kms:key"],
    )
    for arn in [one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"]]:
        state = stack.account.kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
        found = f"{arn}, no longer used, is {state}, and {count(queued, 'message')} may be encrypted with it"
        problem = warning if state == "Enabled" else failed
        yield problem("key", found, "keep it enabled until both queues are empty")


def _mapping(stack: StackSnapshot) -> Iterator[Finding]:
    name, mapping, again = "event source mapping", stack.mapping, "deploy the template again"
    if mapping is None:
        yield failed(name, "the work queue has no mapping to the function", again)
        return
    state, result = mapping["State"], mapping.get("LastProcessingResult", "")
    reports_failures = "ReportBatchItemFailures" in mapping.get("FunctionResponseTypes", [])
    if state in {"Disabled", "Disabling"}:
        enable = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"
        yield failed(name, f"it is {state}: messages wait for at most four days", enable)
    elif state != "Enabled":
        yield warning(name, f"it is {state}", "check again in a minute")
    if not reports_failures:
        yield failed(name, "ReportBatchItemFailures is off: messages that failed are deleted", again)
    if result.startswith("PROBLEM"):
        yield failed(name, result, "look at the role and the function's log")
    elif state == "Enabled" and reports_failures:
        yield ok(name, "enabled, and failures are reported one by one")


def _queues(stack: StackSnapshot) -> Iterator[Finding]:
    work = stack.attributes(stack.deployment.work_queue_url)
    letters = stack.attributes(stack.deployment.dead_letter_queue_url)
    window = stack.mapping.get("MaximumBatchingWindowInSeconds", 0) if stack.mapping else 0
    least, visibility = 6 * stack.terminate["Timeout"] + window, int(work["VisibilityTimeout"])
    again = "set it back, or deploy the template again"
    found = f"{visibility} s; six times the function's timeout and the batch window are {least} s"
    yield verdict("visibility timeout", good=visibility >= least, found=found, remedy=again)
    policy = json.loads(work.get("RedrivePolicy", "{}"))
    receives = int(policy.get("maxReceiveCount", 0))
    if policy.get("deadLetterTargetArn") != stack.deployment.dead_letter_queue_arn:
        yield failed("redrive policy", "the work queue does not redrive to the dead letters", again)
    else:
        # At its fourth receive, the function requeues a message that it could not make a call for.
        found = f"dead letters after {receives} receives; 5 are needed"
        yield verdict("redrive policy", good=receives >= 5, found=found, remedy=again)
    kept, waits = int(letters["MessageRetentionPeriod"]), int(work["MessageRetentionPeriod"])
    # A message that SQS moves keeps its age.
    found = f"dead letters are kept for {kept / 86_400:g} days, work for {waits / 86_400:g}"
    yield verdict("retention", good=kept > waits, found=found, remedy=again)


def _switch(stack: StackSnapshot) -> Iterator[Finding]:
    switch = read_switch(stack.account.ssm, stack.deployment.output("StopSwitchParameterName"))
    yield verdict("stop switch", good=switch.goes, found=switch.value, remedy=f"{stack.command} go")


def _letters(stack: StackSnapshot) -> Iterator[Finding]:
    number = depth_of(stack.account.sqs, stack.deployment.dead_letter_queue_url).total
    yield verdict("dead letters", good=not number, found=str(number), remedy=f"{stack.command} dead-letters list")


def _schedules(stack: StackSnapshot) -> Iterator[Finding]:
    physical = resource_of(stack.account.cloudformation, stack.deployment.name, "PeriodicSweep")
    state = stack.account.scheduler.get_schedule(Name=physical.rsplit("/", 1)[-1].rsplit("|", 1)[-1])["State"]
    deployed = "ENABLED" if stack.deployment.parameters.get("SweepEnabled") == "true" else "DISABLED"
    if state == deployed:
        yield ok("schedules", f"the periodic sweep is {state}, as deployed")
    else:
        found = f"the periodic sweep is {state}, deployed as {deployed}"
        yield warning("schedules", found, "somebody changed it: set SweepEnabled by a deployment")
    for one in planned(stack.account.scheduler, stack.deployment):
        if one.state != "ENABLED":
            remedy = f"enable it, or {stack.command} schedule cancel {one.name}"
            yield warning("schedules", f"{one.name} is {one.state}", remedy)


def _alarm_topic(stack: StackSnapshot) -> Iterator[Finding]:
    topic = stack.deployment.outputs.get("AlarmTopicArn")
    if topic is None:
        yield warning("alarm topic", "there are no alarms", "deploy AlarmEmail or AlarmTopicArn")
        return
    pages = stack.account.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    arns = [one["SubscriptionArn"] for page in pages for one in page["Subscriptions"]]
    if confirmed := sum(1 for one in arns if one.startswith("arn:")):
        yield ok("alarm topic", count(confirmed, "confirmed subscription"))
    else:
        found = f"nobody is notified of an alarm; {count(len(arns), 'subscription')} not confirmed yet"
        yield warning("alarm topic", found, "confirm by the link in the e-mail, or subscribe to AlarmTopicArn")


def _aws_clock(stack: StackSnapshot) -> Iterator[Finding]:
    answer = stack.account.sqs.get_queue_attributes(QueueUrl=stack.deployment.work_queue_url)
    skew = skew_seconds(answer["ResponseMetadata"]["HTTPHeaders"].get("date"))
    if skew is not None and skew > _SKEW_WORTH_A_WORD:
        yield warning("clock", f"AWS's clock and this machine's differ by {skew:.0f} s", "set the clock")


CHECKS: Mapping[str, Callable[[StackSnapshot], Iterator[Finding]]] = {
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

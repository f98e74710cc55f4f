"""Every parameter is described, has a default and bounds, and what it admits the function accepts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from devin.session_id import parse_session_id
from settings import Settings
from sweep.policy import parse_policy
from tests.template.rendered import render, source

PARAMETERS: dict[str, Any] = source()["Parameters"]


def _admits(name: str, value: str) -> bool:
    """Whether CloudFormation would take the value: a pattern has to match all of it."""
    parameter = PARAMETERS[name]
    if "AllowedValues" in parameter:
        return value in map(str, parameter["AllowedValues"])
    if parameter["Type"] == "Number":
        return bool(parameter["MinValue"] <= float(value) <= parameter["MaxValue"])
    return (
        len(value) <= parameter.get("MaxLength", 4096) and re.fullmatch(parameter["AllowedPattern"], value) is not None
    )


def _settings(**parameters: str) -> Settings:
    return Settings.from_environment(
        render(**parameters).resources["TerminateFunction"]["Properties"]["Environment"]["Variables"]
    )


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_says_what_it_is_and_has_bounds(name: str) -> None:
    parameter = PARAMETERS[name]
    assert parameter["Description"].endswith(".")
    assert "Default" in parameter
    if parameter["Type"] == "Number":
        assert "AllowedValues" in parameter or {"MinValue", "MaxValue"} <= parameter.keys()
    else:
        assert "AllowedValues" in parameter or "AllowedPattern" in parameter
    assert "AllowedPattern" not in parameter or "ConstraintDescription" in parameter, "a pattern is no explanation"
    assert _admits(name, str(parameter["Default"]))


@pytest.mark.parametrize("name", [name for name, one in PARAMETERS.items() if "AllowedPattern" in one])
def test_pattern_admits_neither_line_breaks_nor_quotes(name: str) -> None:
    default = str(PARAMETERS[name]["Default"])
    for intruder in ("\n", '"', "\\", "${x}", "\u0435"):
        assert not _admits(name, default + intruder)


def test_console_shows_every_parameter_once_and_with_a_label() -> None:
    interface = source()["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(PARAMETERS)
    assert interface["ParameterLabels"].keys() == PARAMETERS.keys()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.devin.ai",
        "https://api.devin.ai/",
        "https://api.devin.ai:8443",
        "https://gateway.example.com/devin/prod",
        "https://localhost:8443",
        "https://[::1]:8443",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://127.1.2.3",
        "http://[::1]:8080",
    ],
)
def test_api_address_that_is_admitted_is_accepted_by_the_function(url: str) -> None:
    assert _admits("DevinApiUrl", url)
    assert _settings(DevinApiUrl=url).devin_api_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.devin.ai",
        "http://api.devin.ai",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.256",
        "http://128.0.0.1",
        "http://[::2]",
        "http://localhost@example.com",
        "https://user:password@api.devin.ai",
        "https://api.devin.ai?x=1",
        "https://api.devin.ai#x",
        "https://api.devin.ai/v1?x=1",
        "https://api.devin.ai/v1 x",
        "https://",
        "https:///v1",
        "https://-",
        "https://api.devin.ai:port",
        "ftp://api.devin.ai",
        "file:///etc/passwd",
        "HTTPS://api.devin.ai evil",
        "https://api.devin.ai\n",
        "https://api.devin.ai\r\nHost: example.com",
    ],
)
def test_api_address_that_is_refused(url: str) -> None:
    assert not _admits("DevinApiUrl", url)


@pytest.mark.parametrize(
    ("name", "setting"),
    [("MaxWorkers", "max_workers"), ("RetryBaseSeconds", "retry_base_seconds")],
)
def test_function_accepts_both_bounds(name: str, setting: str) -> None:
    for bound in (PARAMETERS[name]["MinValue"], PARAMETERS[name]["MaxValue"]):
        assert getattr(_settings(**{name: str(bound)}), setting) == bound


@pytest.mark.parametrize(
    ("name", "setting"), [("DryRun", "dry_run"), ("Archive", "archive"), ("PublishOutcomes", "publish_outcomes")]
)
def test_switch_reaches_the_function(name: str, setting: str) -> None:
    assert not getattr(_settings(), setting), "off unless asked for"
    assert getattr(_settings(**{name: "true"}), setting)


@pytest.mark.parametrize(
    ("value", "admitted"), [("org-abc_123", True), ("a/b", False), ("a b", False), ("x" * 129, False)]
)
def test_organisation(value: str, admitted: bool) -> None:
    assert _admits("DevinOrgId", value) is admitted
    if admitted:
        assert _settings(DevinOrgId=value).devin_org_id == value


@pytest.mark.parametrize("given", ["devin-abc", "devin-" + "x" * 122, "0123456789abcdef" * 2])
def test_scheduled_id_that_is_admitted_is_one_to_the_function(given: str) -> None:
    assert _admits("ScheduledSessionIds", given)
    assert parse_session_id(given).startswith("devin-")


@pytest.mark.parametrize(
    "given", ["devin-", "abc", "task-abc", "devin-../x", "devin-a b", 'devin-a"', "devin-" + "x" * 123, "*"]
)
def test_scheduled_id_that_is_refused(given: str) -> None:
    assert not _admits("ScheduledSessionIds", given)


@pytest.mark.parametrize("name", ["ScheduleExpression", "SweepSchedule"])
@pytest.mark.parametrize(
    ("expression", "admitted"),
    [
        ("rate(1 minute)", True),
        ("rate(12 hours)", True),
        ("cron(0 18 ? * MON-FRI *)", True),
        ("cron(0 18 * * *)", False),  # five fields, as in Unix
        ("rate(0 minutes)", False),
        ("at(2030-01-01T18:00:00)", False),  # would never recur
        ("every day", False),
    ],
)
def test_schedule_expression(name: str, expression: str, admitted: bool) -> None:
    assert _admits(name, expression) is admitted


def test_sweep_is_harmless_unless_told_otherwise() -> None:
    assert PARAMETERS["SweepEnabled"]["Default"] == "false"
    policy = parse_policy(json.loads(PARAMETERS["SweepPolicy"]["Default"]))
    assert policy.dry_run
    # It says so itself too: who edits it should see the word that decides.
    assert "dry_run" in PARAMETERS["SweepPolicy"]["Default"]


@pytest.mark.parametrize(
    "policy",
    [
        {"idle_for": "P3D", "dry_run": False, "max_sessions": 20, "max_share": 0.25, "notify_first": "PT24H"},
        {"older_than": "P1W", "statuses": ["blocked", "finished"], "without_tags": ["on call", "it's mine"]},
        {"idle_for": "PT6H", "title_matches": "[WIP] Café \u201cnight\u201d *", "users": ["a.b+c@example.com"]},
    ],
)
def test_policy_that_can_be_used_is_admitted_as_json(policy: dict[str, Any]) -> None:
    assert parse_policy(policy).dry_run is policy.get("dry_run", True)
    assert _admits("SweepPolicy", json.dumps(policy, ensure_ascii=False))


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "{}",
        "P3D",
        '["idle_for"]',
        '{"idle_for": {"days": 3}}',
        '{"idle_for": "P3D"',
        '{"idle_for": "P3D"}\n',
        '{"idle_for":\n"P3D"}',
        '{"idle_for": "P3D"}{"dry_run": false}',
        '{"title_matches": "{{resolve:secretsmanager:devin}}"}',
        '{"title_matches": "${AWS::StackName}"}',
        '{"title_matches": "' + "x" * 2048 + '"}',
    ],
)
def test_policy_that_is_refused(policy: str) -> None:
    assert not _admits("SweepPolicy", policy)


@pytest.mark.parametrize("tag", ["keep", "Do not end", "team:on-call/2026", "a" * 128])
def test_protect_tag_that_is_admitted_reaches_the_function(tag: str) -> None:
    assert _admits("ProtectTag", tag)
    assert _settings(ProtectTag=tag).protect_tag == tag


@pytest.mark.parametrize("tag", ["", " ", " keep", "keep ", "a  b", "a\tb", "ke\u0435p", "a" * 129])
def test_protect_tag_that_is_refused(tag: str) -> None:
    assert not _admits("ProtectTag", tag)


@pytest.mark.parametrize(
    ("arn", "admitted"),
    [
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/devin-AbCdEf", True),
        ("arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:devin-AbCdEf", True),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:*", False),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:devin", False),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/devin-AbCdEf", False),
        ("devin", False),
    ],
)
def test_arn_of_an_existing_secret(arn: str, admitted: bool) -> None:
    assert _admits("ExistingApiKeySecretArn", arn) is admitted


def test_every_concurrency_that_is_admitted_is_mapped_to_itself() -> None:
    mapped = {name: one["Invocations"] for name, one in source()["Mappings"]["MaximumConcurrency"].items()}
    assert mapped == {str(one): one for one in PARAMETERS["MaximumConcurrency"]["AllowedValues"]}
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
    assert min(mapped.values()) == 2
    assert max(mapped.values()) == 1000


def test_batches_above_ten_need_a_window() -> None:
    # https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html (BatchSize)
    rule = source()["Rules"]["LargeBatchesNeedAWindow"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "BatchWindowSeconds"}, "0"]}
    (assertion,) = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Contains": [[str(size) for size in range(1, 11)], {"Ref": "BatchSize"}]}

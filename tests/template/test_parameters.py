"""Every parameter is described, has a default and bounds, and what it admits the functions accept."""

import json
import re
from typing import Any

import pytest

from infra.parameters import PAGE, page
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


def test_there_are_twenty_parameters_at_most_and_the_page_has_them() -> None:
    assert len(PARAMETERS) <= 20
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make parameters`"


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_says_what_it_is_and_has_bounds(name: str) -> None:
    parameter = PARAMETERS[name]
    assert parameter["Description"].endswith(".")
    if parameter["Type"] == "Number":
        assert "AllowedValues" in parameter or {"MinValue", "MaxValue"} <= parameter.keys()
    else:
        assert "AllowedValues" in parameter or {"AllowedPattern", "ConstraintDescription"} <= parameter.keys()
    default = str(parameter["Default"])
    assert _admits(name, default)
    if "AllowedPattern" in parameter:
        assert not [intruder for intruder in ("\n", '"', "\\", "${x}", "\u0435") if _admits(name, default + intruder)]


ADMITTED = {
    "AlarmEmail": ["", "on-call+devin@example.co.uk"],
    "AlarmTopicArn": ["arn:aws:sns:eu-west-1:123456789012:on-call", "arn:aws-cn:sns:cn-north-1:123456789012:x"],
    "DevinApiUrl": [
        "https://api.devin.ai",
        "https://api.devin.ai/",
        "https://api.devin.ai:8443",
        "https://company.devinenterprise.com/api",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
    ],
    "DevinOrgId": ["org-abc_123"],
    "ExistingApiKeySecretArn": [
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/devin-AbCdEf",
        "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:devin-AbCdEf",
    ],
    "MaximumConcurrency": ["2", "7", "1000"],
    "ProducerArns": [
        "arn:aws:sns:eu-west-1:210987654321:stale-sessions",
        "arn:aws:events:eu-west-1:123456789012:rule/bus/at-night",
        "arn:aws:iam::210987654321:role/service-role/rule",
    ],
    "ProtectTag": ["keep", "Do not end", "team:on-call/2026", "a" * 128],
    "SweepPolicy": [
        '{"idle_for": "P3D", "dry_run": false, "max_share": 0.25, "notify_first": "PT24H"}',
        '{"title_matches": "Café \u201cnight\u201d *", "without_tags": ["it\'s mine"], "users": ["a.b+c@example.com"]}',
    ],
    "SweepSchedule": [
        "rate(1 minute)",
        "cron(0 18 ? * MON-FRI *)",
        "cron(0,30 8-18/2 ? JAN,MAR 2#1 *)",
        "cron(*/15 * L * ? 2026-2030)",
    ],
}
REFUSED = {
    "AlarmEmail": ["on-call", "a@b", "a@b.c\n"],
    "AlarmTopicArn": ["on-call", "arn:aws:sqs:eu-west-1:123456789012:x", "arn:aws:sns:eu-west-1:123456789012:x.fifo"],
    "DevinApiUrl": [
        "",
        "http://api.devin.ai",
        "http://localhost.example.com",
        "http://127.0.0.256",
        "http://[::2]",
        "http://localhost@example.com",
        "https://api.devin.ai?x=1",
        "https://api.devin.ai/v1",
        "https://api.devin.ai/a b",
        "https:///api",
        "https://api.devin.ai:port",
        "https://api.devin.ai\r\nHost: example.com",
    ],
    "DevinOrgId": ["a/b", "a b", "x" * 129],
    "ExistingApiKeySecretArn": [
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:devin",
        "devin",
    ],
    "MaximumConcurrency": ["1", "1001"],
    "ProducerArns": [
        "*",
        "arn:aws:sns:eu-west-1:123456789012:*",
        "arn:aws:iam::123456789012:root",
    ],
    "ProtectTag": ["", " ", " keep", "keep ", "a  b", "a\tb", "ke\u0435p", "a" * 129],
    "SweepPolicy": [
        '["idle_for"]',
        '{"idle_for": {"days": 3}}',
        '{"idle_for": "P3D"}\n',
        '{"idle_for": "P3D"}{"dry_run": false}',
        '{"title_matches": "{{resolve:secretsmanager:devin}}"}',
        '{"title_matches": "${AWS::StackName}"}',
        '{"title_matches": "' + "x" * 2048 + '"}',
    ],
    "SweepSchedule": [
        "at(2030-01-01T18:00:00)",  # would never recur
        "rate(1 hours)",
        "rate(2 hour)",
        "cron(0 18 * * *)",  # five fields, as in Unix
        "cron(0 18 * * * *)",  # one of the day fields has to be ?
        "cron(0 24 ? * MON *)",
    ],
}


@pytest.mark.parametrize("name", sorted(ADMITTED.keys() | REFUSED.keys()))
def test_values(name: str) -> None:
    assert [value for value in ADMITTED.get(name, []) if not _admits(name, value)] == []
    assert [value for value in REFUSED.get(name, []) if _admits(name, value)] == []


def test_what_is_admitted_reaches_the_functions() -> None:
    texts = {"DevinApiUrl": "devin_api_url", "DevinOrgId": "devin_org_id", "ProtectTag": "protect_tag"}
    for name, setting in texts.items():
        for value in ADMITTED[name]:
            assert getattr(_settings(**{name: value}), setting) == value.rstrip("/")
    for name, setting in {"DryRun": "dry_run", "Archive": "archive", "PublishOutcomes": "publish_outcomes"}.items():
        assert not getattr(_settings(), setting), "off unless asked for"
        assert getattr(_settings(**{name: "true"}), setting)
    for policy in ADMITTED["SweepPolicy"]:
        parse_policy(json.loads(policy))


def test_sweep_is_harmless_by_default() -> None:
    assert PARAMETERS["SweepEnabled"]["Default"] == "false"
    assert parse_policy(json.loads(PARAMETERS["SweepPolicy"]["Default"])).dry_run
    # It says so itself too: who edits it should see the word that decides.
    assert "dry_run" in PARAMETERS["SweepPolicy"]["Default"]


def test_a_change_that_loses_something_says_what_to_do_first() -> None:
    """By parameter, what its description has to warn of."""
    warnings = {
        "DevinApiUrl": "Drain the work queue before",
        "DevinOrgId": "Drain the work queue before",
        "EventsEnabled": "such events are lost",
        "ExistingApiKeySecretArn": "Store the key in the other secret before",
        "LogRetentionDays": "deletes what is older",
        "ProducerArns": "only when it no longer sends",
        "ProtectTag": "Add the new tag to sessions before",
        "UseCustomerManagedKey": "delete it when both queues are empty",
    }
    assert {name for name, text in warnings.items() if text not in PARAMETERS[name]["Description"]} == set()

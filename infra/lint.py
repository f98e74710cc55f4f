"""`python -m infra.lint`: cfn-lint and checkov on the templates as they are deployed.

cfn-lint checks few values of AWS::Serverless resources, and checkov leaves out checks of a role that has a statement
inside `Fn::If`. So both get what SAM makes of the templates, with conditions resolved, once for each setting that
matters.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from infra.environments import ENVIRONMENTS, ROOT, clean_environment
from infra.rendered import OBSERVABILITY, TEMPLATE, Json, observability, resolved, source, translated

TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/devin-AbCdEf"  # noqa: S105 - an ARN
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "everything": {
        "AlarmEmail": "on-call@example.com",
        "Dashboard": "true",
        "ProducerArns": f"{TOPIC}, arn:aws:iam::210987654321:role/rule",
        "PublishOutcomes": "true",
        "SweepEnabled": "true",
        "Tracing": "Active",
        "UseCustomerManagedKey": "true",
    },
    "existing secret": {
        "AlarmEmail": "on-call@example.com",
        "EventsEnabled": "false",
        "ExistingApiKeySecretArn": SECRET,
    },
}
OBSERVED = {"AlarmTopicArn": TOPIC, "SweepsExpected": "true", "SweepSilenceHours": "3", "MakeDashboard": "true"}
# By check and resource: why it does not apply. One that is no longer found has to go.
_FUNCTIONS = ("TerminateFunction", "SweepFunction")
_PUBLIC_API = "Calls a public API and AWS endpoints only; a VPC would add a NAT gateway and protect nothing"
_AWS_KEY = "Encrypted with a key that AWS manages; UseCustomerManagedKey makes one of the stack's own"
SUPPRESSED: Mapping[tuple[str, str], str] = {
    **{("CKV_AWS_117", name): _PUBLIC_API for name in _FUNCTIONS},
    **{("CKV_AWS_173", name): "No variable is secret; the API key is read from Secrets Manager" for name in _FUNCTIONS},
    ("CKV_AWS_115", "TerminateFunction"): "MaximumConcurrency caps it; a reservation below that would use up receives",
    ("CKV_AWS_115", "SweepFunction"): "Two sweeps at once enqueue the same sessions twice, and they are ended once",
    ("CKV_AWS_116", "TerminateFunction"): "The OnFailure destination does this; the check knows DeadLetterConfig alone",
    ("CKV_AWS_116", "SweepFunction"): "A failed sweep is no session that still runs; an alarm reports it",
    ("CKV_AWS_28", "AnnouncementsTable"): "A restored table would hold notices that were withdrawn since",
    ("CKV_AWS_119", "AnnouncementsTable"): _AWS_KEY,
    ("CKV_AWS_27", "WorkQueue"): "Does not know SqsManagedSseEnabled; tests/template asserts encryption",
    ("CKV_AWS_27", "DeadLetterQueue"): "As WorkQueue",
    ("CKV_AWS_26", "AlarmTopic"): "A notification holds an alarm's name and a count; alias/aws/sns excludes CloudWatch",
    ("CKV_AWS_149", "ApiKeySecret"): _AWS_KEY,
    ("CKV_AWS_158", "TerminateLogGroup"): _AWS_KEY,
    ("CKV_AWS_158", "SweepLogGroup"): _AWS_KEY,
    ("CKV_AWS_33", "Key"): "Conditions limit the principals to roles of this account and to ProducerArns",
}


def rendered() -> dict[str, Json]:
    """Every template that is linted, by the name of its file."""
    template = translated(source())
    templates = {
        f"template-{setting}.json": resolved(template, parameters, references=False)
        for setting, parameters in SETTINGS.items()
    }
    for deployed in templates.values():
        # SAM CLI uploads it and puts the address here.
        deployed["Resources"]["ObservabilityStack"]["Properties"]["TemplateURL"] = "https://s3.amazonaws.com/bucket/key"
    return templates | {"observability.json": resolved(observability(), OBSERVED, references=False)}


def _cfn_lint(templates: list[Path]) -> subprocess.CompletedProcess[str]:
    # "I" are the hints; as strict as it gets. W1100 and W1101 are YAML aliases, which SAM CLI writes out.
    options = ["--include-checks", "I", "--ignore-checks", "W1100", "W1101", "--"]
    command: list[str | Path] = [Path(sys.executable).with_name("cfn-lint"), *options, TEMPLATE, OBSERVABILITY]
    return subprocess.run([*command, *templates], cwd=ROOT, capture_output=True, text=True, check=False)


def _checkov(templates: list[Path]) -> set[tuple[str, str]]:
    command: list[str | Path] = [ENVIRONMENTS["checkov"].path / "bin" / "checkov", "--framework", "cloudformation"]
    # From a directory without configuration, so that none elsewhere on the machine loosens it.
    result = subprocess.run(
        [*command, "--output", "json", "--skip-download", "--soft-fail", "--file", *templates],
        cwd=templates[0].parent,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(result.stdout)["results"]
    scanned = {Path(one["file_path"]).name for one in report["passed_checks"]}
    # It has no checks for what observability.yaml makes.
    if report["parsing_errors"] or scanned != {path.name for path in templates if path.name.startswith("template-")}:
        raise RuntimeError(f"checkov did not read every template: {report['parsing_errors']}, {scanned}")
    return {(one["check_id"], one["resource"].rpartition(".")[2]) for one in report["failed_checks"]}


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        templates = []
        for name, template in rendered().items():
            templates.append(Path(directory, name))
            templates[-1].write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09"} | template, indent=1))
        lint = _cfn_lint(templates)
        failed = _checkov(templates)
    print(lint.stdout + lint.stderr, end="")
    for check, resource in sorted(failed - SUPPRESSED.keys()):
        print(f"checkov: {check} fails for {resource}")
    for check, resource in sorted(SUPPRESSED.keys() - failed):
        print(f"checkov: {check} passes for {resource}: remove its suppression")
    return 1 if lint.returncode or failed != SUPPRESSED.keys() else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line as a whole: options, exit statuses, and problems in a sentence."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    MissingDependencyException,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)
from typer.main import get_command

from infra.environments import ROOT
from infra.ops.account import open_session as open_real_session
from infra.ops.app import app, hoisted, main
from tests.unit.ops.terminal import into_closed_pipe
from tests.unit.ops.world import Operator

DESCRIBE = "cloudformation.DescribeStacks"
SCRIPTS = Path(sys.prefix) / "bin"


def refused(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "DescribeStacks")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NoCredentialsError(), "log in"),
        (MissingDependencyException(msg="Using the login credential provider requires"), "pip install 'botocore[crt]'"),
        (NoRegionError(), "--region"),
        (ProfileNotFound(profile="nobody"), "list-profiles"),
        (EndpointConnectionError(endpoint_url="https://127.0.0.1:1"), "make up"),
        (refused("ExpiredToken"), "have expired"),
        (refused("InvalidClientTokenId"), "does not know these credentials"),
        (refused("AccessDenied"), "use another --profile"),
        (refused("ValidationError", "Stack with id x does not exist"), "there is no stack devin-session-cleanup in"),
        (refused("Throttling", "key apk_user_0123456789 is\nslow"), "Throttling: key [redacted] is slow"),
    ],
)
def test_what_aws_refuses_is_said_in_a_sentence(operator: Operator, error: Exception, says: str) -> None:
    operator.world.aws.faults[DESCRIBE] = error
    ran = operator.run("status", "--json")
    assert (ran.status, ran.out) == (3, "")
    assert says in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_an_address_that_is_none_is_said_in_a_sentence(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:4566")
    ran = operator.run("status")
    assert (ran.status, ran.out) == (2, "")
    assert "AWS_ENDPOINT_URL" in ran.err


def test_another_stack_of_that_name_is_no_reason_to_guess(operator: Operator) -> None:
    operator.outputs.clear()
    for command in (("enqueue", "devin-1"), ("status",), ("stop",)):
        ran = operator.run(*command)
        assert (ran.status, "has no output" in ran.err) == (1, True)


@pytest.mark.parametrize("arguments", [["nonsense"], ["enqueue", "--nonsense"], ["watch", "--every", "never"]])
def test_wrong_usage_has_a_status_of_its_own(operator: Operator, arguments: list[str]) -> None:
    assert main(arguments, name="devin-ops") == 2
    assert operator.world.aws.calls == []


COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
LEAVES = [f"{name} {part}".strip() for name, command in COMMANDS.items() for part in getattr(command, "commands", [""])]


def test_help_says_what_the_exit_statuses_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], name="devin-ops") == 0
    printed = capsys.readouterr().out
    assert "130 interrupted" in " ".join(printed.split())
    assert all(f"  {name} " in printed for name in COMMANDS)


@pytest.mark.parametrize("command", LEAVES)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "-h"], name="devin-ops") == 0
    printed = capsys.readouterr().out
    assert f"Example:\n    devin-ops {command}" in printed
    assert "<bool>" not in printed


def imported(code: str) -> list[str]:
    """The modules that are there after this code, each as its name and its file."""
    code += "\nfor name, one in sys.modules.items(): print(name, getattr(one, '__file__', None), file=sys.stderr)"
    ran = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", f"import sys; {code}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return ran.stderr.splitlines()


def test_help_imports_nothing_slow() -> None:
    names = {line.split()[0] for line in imported("from infra.ops.app import main; main(['stop', '-h'], name='x')")}
    assert "infra.ops.commands.switch" in names
    assert not {"boto3", "rich", "requests"} & names


def test_the_wheel_holds_what_the_command_imports() -> None:
    lines = imported("import infra.ops.app, infra.ops.doctor, infra.ops.chart")
    files = [Path(line.partition(" ")[2]) for line in lines if not line.endswith(" None")]
    ours = {one.relative_to(ROOT) for one in files if one.is_relative_to(ROOT) and not one.is_relative_to(sys.prefix)}
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    places = packaged["targets"]["wheel"]["force-include"]
    assert ours
    assert all(any(one.is_relative_to(place) for place in places) for one in ours)
    assert not any(line.startswith("aws_lambda_powertools") for line in lines)


def test_the_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert main(["--version"], name="devin-ops") == 0
    assert capsys.readouterr().out == f"devin-ops {project['version']}\n"


def test_a_closed_pipe_ends_the_command_as_it_does_others(operator: Operator) -> None:
    for number in range(40):
        operator.dead_letter(f"devin-{number}", reason="rejected_422", detail="x" * 400)
    assert into_closed_pipe("dead-letters", "list") == (141, "")
    assert into_closed_pipe("--help")[1] == ""


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_ctrl_c_ends_without_a_traceback_however_early(seconds: float) -> None:
    environment = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": os.devnull}  # no Region, so it ends soon
    ran = subprocess.Popen(  # noqa: S603 - our own
        [SCRIPTS / "devin-ops", "status"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    time.sleep(seconds)
    ran.send_signal(signal.SIGINT)
    said, _ = ran.communicate(timeout=60)
    assert "Traceback" not in said
    assert ran.returncode in {130, -signal.SIGINT, 3}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[boto3.Session]:
    """The sessions that the command opens, where there is a profile `ops` in Tokyo."""
    (tmp_path / "credentials").write_text("[ops]\naws_access_key_id = of-profile\naws_secret_access_key = x\n")
    (tmp_path / "config").write_text("[profile ops]\nregion = ap-northeast-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    found: list[boto3.Session] = []

    def open_session(profile: str | None, region: str | None) -> boto3.Session:
        found.append(open_real_session(profile, region))
        assert boto3.DEFAULT_SESSION is not None
        return boto3.DEFAULT_SESSION

    monkeypatch.setattr("infra.ops.account.open_session", open_session)
    return found


def test_a_hint_can_be_pasted_with_the_options_that_were_given(operator: Operator) -> None:
    ran = operator.run("--stack-name", "my stack", "--region", "eu-west-1", "enqueue", "devin-1")
    assert ran.status == 0
    assert "follow them with: devin-ops --stack-name 'my stack' --region eu-west-1 watch" in ran.out
    operator.dead_letter("devin-2", reason="rejected_404", session_id="devin-2")
    assert "see: devin-ops --stack-name x dead-letters list" in operator.run("--stack-name", "x", "status").err


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("environment", "options", "session"),
    [
        # https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html#cli-configure-files-precedence
        ({"AWS_PROFILE": "ops"}, (), ("of-environment", "ap-northeast-1")),
        ({}, ("--profile", "ops"), ("of-profile", "ap-northeast-1")),
        ({"AWS_REGION": "eu-west-3"}, ("--profile", "ops"), ("of-profile", "eu-west-3")),
        ({"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-2"}, (), ("of-environment", "eu-west-3")),
        ({"AWS_REGION": "eu-west-3"}, ("--region=eu-west-2",), ("of-environment", "eu-west-2")),
    ],
)
def test_profile_and_region_mean_what_they_mean_to_the_aws_cli(
    opened: list[boto3.Session],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    options: tuple[str, ...],
    session: tuple[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    main(["stop", *options], name="devin-ops")
    (made,) = opened
    credentials = made.get_credentials()
    assert credentials is not None
    assert (credentials.access_key, made.region_name) == session


def test_the_environment_says_what_the_options_do_not(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_NAME", "another")
    operator.world.aws.faults[DESCRIBE] = refused("ValidationError")
    assert "there is no stack another in" in operator.run("status").err
    assert "there is no stack third in" in operator.run("--stack-name", "third", "status").err


def test_shared_options_may_stand_anywhere_but_behind_two_dashes() -> None:
    given = ["--json", "enqueue", "x", "--region", "y", "--profile=z", "--", "--region", "w"]
    assert hoisted(given) == ["--region", "y", "--profile=z", "enqueue", "x", "--json", "--", "--region", "w"]


@pytest.mark.parametrize(
    "command", [(str(SCRIPTS / "devin-ops"),), (sys.executable, "-m", "devin_ops")], ids=["script", "module"]
)
def test_the_installed_command_works_from_any_directory(tmp_path: Path, command: tuple[str, ...]) -> None:
    for name in ("infra", "settings", "typer", "devin"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not ours')")
    arguments = [*command, "stop", "--help"]
    ran = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Usage: devin-ops stop" in ran.stdout


def test_messages_name_the_command_as_it_was_typed(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    operator.world.switch("stop")
    for name in ("devin-ops", "python -m infra.ops"):
        assert main(["doctor", "--no-api", "--json"], name=name) == 1
        assert f"{name} go" in capsys.readouterr().out

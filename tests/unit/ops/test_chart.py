"""`sweep --chart`: the numbers are the sweep's, the page is harmless and complete, and nothing is ended."""

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from botocore.exceptions import ClientError

from devin.session import parse_session
from devin.version import V3
from infra.ops.fleet import THRESHOLDS, survey
from sweep.selection import CapExceededError
from tests.unit.ops.world import Operator, Ran
from tests.unit.world import NOW, ORG_ID, TABLE, V3_KEY, answer, page_v3, stale, stale_v3

HOURS = timedelta(hours=1)
POLICY = {"idle_for": "P1D", "exclude_users": ["user-release"], "max_sessions": 3, "max_share": 1}


class Charts:
    """An operator who draws charts of a stack with a key of version 3."""

    def __init__(self, operator: Operator, directory: Path) -> None:
        self.operator = operator
        self.world = operator.world
        self.path = directory / "fleet.html"

    def run(self, *arguments: str, policy: object = POLICY) -> Ran:
        return self.operator.run("sweep", json.dumps(policy), "--chart", str(self.path), *arguments)

    def page(self) -> tuple[set[str], set[str], list[str]]:
        """Tags, names of attributes, and texts. It parses: every tag is closed."""
        elements = list(ET.parse(self.path).iter())  # noqa: S314 - our own
        texts = [text for one in elements for text in (one.text, one.tail) if text]
        return (
            {one.tag.rpartition("}")[2] for one in elements},
            {name for one in elements for name in one.attrib},
            texts,
        )


@pytest.fixture
def charts(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Charts:
    environment = operator.world.environment() | {"DEVIN_ORG_ID": ORG_ID, "ANNOUNCEMENTS_TABLE": TABLE}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    operator.world.aws.faults["lambda.GetFunctionConfiguration"] = lambda _: {"Environment": {"Variables": environment}}
    operator.world.secrets.put_secret_value(SecretId=operator.world.secret, SecretString=V3_KEY)
    monkeypatch.setattr("infra.ops.chart.utc_now", lambda: NOW)
    monkeypatch.setattr("infra.ops.account.Account.dynamodb", operator.world.dynamodb)
    operator.world.api.have(
        *(stale_v3(f"devin-{hours}", idle=hours * HOURS, acus_consumed=hours) for hours in (2, 5, 13, 30, 60, 400)),
        stale_v3("devin-release", user_id="user-release"),
        stale_v3("devin-kept", tags=["keep"]),
        stale_v3("devin-rejected"),
        stale_v3("devin-parent", child_session_ids=["devin-child"]),
        stale_v3("devin-child", parent_session_id="devin-parent", idle=3 * HOURS),
        stale_v3("devin-undated", updated_at=None),
        stale_v3("devin-exited", status="exit"),
        stale_v3("devin-archived", is_archived=True),
    )
    operator.world.dynamodb.put_item(TableName=TABLE, Item={"subject": {"S": "rejected/devin-rejected"}})
    operator.world.aws.calls.clear()
    return Charts(operator, tmp_path)


def test_the_numbers_are_those_of_the_sweep(charts: Charts) -> None:
    ran = charts.run("--json")
    assert (ran.status, ran.data["listed"], ran.data["could_be_ended"]) == (0, 14, 12)
    assert [one["idle_for"] for one in ran.data["thresholds"]] == [*THRESHOLDS]
    for threshold in ran.data["thresholds"]:
        policy = POLICY | {"idle_for": threshold["idle_for"], "max_sessions": 100}
        report = charts.world.sweep(**policy)
        assert (threshold["chosen"], threshold["own"]) == (report["chosen"], threshold["idle_for"] == "P1D")
        assert threshold["share"] == report["chosen"] / 12
        try:
            charts.world.sweep(**policy | {"max_sessions": 3})
            assert not threshold["over_caps"]
        except CapExceededError:
            assert threshold["over_caps"]
        if threshold["own"]:
            assert ran.data["kept"] == report["kept"]


def test_the_page_shows_them_and_loads_nothing(charts: Charts) -> None:
    assert charts.run().status == 0
    tags, attributes, texts = charts.page()
    for expected in ("account 123456789012, eu-west-1", "14 sessions are listed", "11 are drawn", "P1D (the policy)"):
        assert expected in "".join(texts)
    assert texts.count("rejected before") == 1
    assert not tags & {"script", "link", "img", "image", "iframe", "use", "foreignObject", "a"}
    assert not {"src", "href", "{http://www.w3.org/1999/xlink}href"} & attributes
    source = charts.path.read_text()
    assert set(re.findall(r"https?://[^\"]*", source)) == {"http://www.w3.org/2000/svg"}, "a name, not an address"
    assert not re.search(r"url\((?!#)|@import", source)
    assert "default-src 'none'; style-src 'unsafe-inline'" in source
    said = re.compile(r"hours idle: .*; sessions: (\d+); group: .*; then: (.*)")
    bars = [found for text in texts if (found := said.fullmatch(text))]
    assert sum(int(bar[1]) for bar in bars) == 3 * 11, "each session is in each of the three pictures"
    assert sum(int(bar[1]) for bar in bars if bar[2] == "chosen") == 3 * 3, "devin-30, devin-60 and devin-400"


def test_it_reads_and_ends_nothing(charts: Charts) -> None:
    ran = charts.run()
    assert "used from this machine" in ran.err
    assert {method for method, _ in charts.world.api.calls} == {"LIST"}
    assert all(re.search(r"\.(Get|Describe|BatchGet)", name) for name in charts.world.aws.names())


def test_text_from_outside_is_shown_as_it_is(charts: Charts) -> None:
    markup = "</title><script>alert(1)</script><b a='"
    charts.world.api.have(stale_v3(user_id=markup, status_detail=f"{V3_KEY} & <i>", title=markup, tags=[markup]))
    assert charts.run(policy={"idle_for": "P1D", "title_matches": f"*{markup[:9]}*"}).status == 0
    tags, _, texts = charts.page()
    assert not {"script", "i"} & tags
    assert any("</title><script>" in text for text in texts)
    assert V3_KEY not in charts.path.read_text()


@pytest.mark.parametrize(
    ("fields", "units", "waiting"),
    [
        ({"acus_consumed": 10.0}, 10.0, 3.0),
        ({"acus_consumed": 10.0, "status": "suspended"}, 10.0, 0.0),
        ({"acus_consumed": None}, None, None),
    ],
)
def test_waiting_costs_a_share_of_what_an_awake_session_consumed(
    charts: Charts, fields: dict[str, Any], units: float | None, waiting: float | None
) -> None:
    created_at = int((NOW - 10 * HOURS).timestamp())
    charts.world.api.have(stale_v3(idle=5 * HOURS, created_at=created_at, **fields))
    found = {one["idle_for"]: one for one in charts.run("--json").data["thresholds"]}
    assert (found["PT4H"]["acus"], found["PT4H"]["waiting_acus"]) == (units, waiting), "three of ten hours"
    assert found["PT1H"]["waiting_acus"] == (None if waiting is None else 0)
    assert found["P14D"]["waiting_acus"] == (waiting and 4.0), "it has not been idle for longer"
    assert found["P14D"]["acus"] == (None if units is None else 0)


def test_a_policy_without_idle_for_has_a_row_and_no_line(charts: Charts) -> None:
    ran = charts.run("--json", policy={"tags": ["nightly"]})
    assert [one["idle_for"] for one in ran.data["thresholds"] if one["own"]] == ["none"]
    assert "idle_for none" not in charts.path.read_text()


def test_a_key_of_version_1_has_no_units(charts: Charts) -> None:
    charts.world.secrets.put_secret_value(SecretId=charts.world.secret, SecretString="apk_user_0123456789")
    charts.world.api.have(stale())
    ran = charts.run()
    assert "PT1H\t1\t100%\twithin\tunknown\tunknown" in ran.out


def test_an_empty_fleet_has_a_page(charts: Charts) -> None:
    charts.world.api.have()
    assert charts.run().status == 0
    assert "svg" not in charts.page()[0]


def test_a_session_that_is_listed_twice_is_drawn_once_and_as_it_was_used_last() -> None:
    sessions = [parse_session(stale_v3(idle=hours * HOURS), V3) for hours in (2, 60)]
    fleet = survey(sessions, "complete", {"idle_for": "P1D"}, NOW, protect_tag="keep", rejected={})
    assert [(point.idle, point.kept) for point in fleet.points] == [(2 * HOURS, "idle_for: no")]


def test_a_listing_that_is_not_complete_is_said_to_be(charts: Charts) -> None:
    charts.world.api.on("LIST", "", page_v3(stale_v3(), following="again"))
    ran = charts.run()
    assert "not complete: the API repeats itself" in ran.err
    assert "NOT COMPLETE: the API repeats itself" in "".join(charts.page()[2])


def test_rejections_that_cannot_be_read_are_said(charts: Charts) -> None:
    charts.world.aws.faults["dynamodb.BatchGetItem"] = ClientError({"Error": {"Code": "AccessDenied"}}, "BatchGetItem")
    ran = charts.run("--json")
    assert "rejected before" not in ran.data["kept"]
    assert "count as if it had not" in ran.err


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (answer(401, {"detail": f"no {V3_KEY}"}), "IP access list"),
        (answer(500, "broken"), "500: broken"),
        (answer(200, "<html>"), "cannot be read"),
    ],
)
def test_an_api_that_does_not_list_leaves_no_page(charts: Charts, said: Any, says: str) -> None:
    charts.world.api.on("LIST", "", said)
    ran = charts.run()
    assert (ran.status, charts.path.exists()) == (1, False)
    assert says in ran.err
    assert V3_KEY not in ran.err


@pytest.mark.parametrize(
    ("file", "arguments", "says"),
    [
        ("policy.json", (), "an .html file"),
        ("no/fleet.html", (), "a directory that exists"),
        ("fleet.html", ("--enforce", "--yes"), "dry"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_asked(
    charts: Charts, tmp_path: Path, file: str, arguments: tuple[str, ...], says: str
) -> None:
    charts.path = tmp_path / file
    ran = charts.run(*arguments)
    assert (ran.status, charts.world.api.calls) == (2, [])
    assert says in ran.err


def test_without_the_renderer_it_is_said_what_to_install(charts: Charts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    ran = charts.run()
    assert (ran.status, charts.world.api.calls) == (2, [])
    assert "pip install vl-convert-python" in ran.err

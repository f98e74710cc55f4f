"""What the template is made of and what refers to what, as a graph to be drawn.

Nothing here is drawn by hand: boxes are resources, and an arrow is there because a property names another resource or
because a role allows one to be used. Words that no template holds stand in `CAPTIONS` and `OUTSIDE`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.environments import ROOT

type Template = Mapping[str, Any]

OUTSIDE = "outside"
# What is a box: its type in a few words, and which colour that has.
KINDS: dict[str, tuple[str, str]] = {
    "AWS::SQS::Queue": ("SQS queue", "#c2410c"),
    "AWS::Serverless::Function": ("Lambda function", "#b45309"),
    "AWS::Events::Rule": ("EventBridge rule", "#be185d"),
    "AWS::Scheduler::Schedule": ("EventBridge schedule", "#be185d"),
    "AWS::SecretsManager::Secret": ("Secrets Manager", "#b91c1c"),
    "AWS::SSM::Parameter": ("Systems Manager parameter", "#7c3aed"),
    "AWS::DynamoDB::Table": ("DynamoDB table", "#1d4ed8"),
    "AWS::Logs::LogGroup": ("CloudWatch Logs", "#0f766e"),
    "AWS::KMS::Key": ("KMS key", "#b91c1c"),
    "AWS::CloudWatch::Alarm": ("CloudWatch", "#0f766e"),
    "AWS::CloudWatch::Dashboard": ("CloudWatch", "#0f766e"),
    "AWS::Logs::QueryDefinition": ("Logs Insights", "#0f766e"),
    "AWS::SNS::Topic": ("SNS topic", "#be185d"),
    "AWS::SNS::Subscription": ("e-mail", "#be185d"),
    OUTSIDE: ("", "#94a3b8"),
}
# Of these there are many, and one box is for all of them.
MANY = {"AWS::CloudWatch::Alarm": "alarms", "AWS::Logs::QueryDefinition": "saved queries"}
# Who they are that use the stack or are used by it, and by which permission or setting they come in.
OUTSIDERS = {
    "producers": ("producers", ("sqs:SendMessage",)),
    "callers": ("direct invocation", ("lambda:InvokeFunction",)),
    "OneTimeScheduleRole": ("one-time schedules", ("made by you, with a role of", "the stack")),
    "bus": ("default event bus", ("reports, notices, outcomes",)),
    "api": ("Devin API", ("version 1 or 3",)),
}
# What an arrow means, where the code says so and not the template.
CAPTIONS = {
    ("TerminateFunction", "WorkQueue"): "another try, later",
    ("TerminateFunction", "DeadLetterQueue"): "rejected, invalid, failed",
    ("TerminateFunction", "api"): "DELETE, GET",
    ("SweepFunction", "WorkQueue"): "the chosen",
    ("SweepFunction", "api"): "lists sessions",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A box. `optional` says on which parameter it depends, if it is not always there; `encrypted`, that it uses the
    stack's own key, if there is one."""

    name: str
    kind: str
    title: str
    details: tuple[str, ...] = ()
    optional: str = ""
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow. `failure` is the way of what could not be done, `both` goes in both directions."""

    source: str
    target: str
    label: str = ""
    failure: bool = False
    both: bool = False


@dataclass
class Graph:
    """Boxes by name and arrows. `nested` are the boxes of the nested stack, and `watched` those that it looks at."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    nested_optional: str = ""
    watched: list[str] = field(default_factory=list)

    def connect(self, source: str, target: str, label: str = "", *, failure: bool = False, both: bool = False) -> None:
        """Once for each pair: the second reason for an arrow adds nothing to it."""
        if not any((edge.source, edge.target) == (source, target) for edge in self.edges):
            self.edges.append(Edge(source, target, CAPTIONS.get((source, target), label), failure, both))


def load(path: str = "template.yaml") -> Template:
    template: Template = yaml_parse((ROOT / path).read_text(encoding="utf-8"))
    return template


def referred(value: Any) -> Iterator[str]:
    """Every name that a part of a template refers to: by Ref, by GetAtt, or inside a text."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key == "Ref":
                yield one
            elif key == "Fn::GetAtt":
                yield one[0] if isinstance(one, list) else one.partition(".")[0]
            elif key == "Fn::Sub":
                yield from re.findall(r"\$\{(\w+)", one if isinstance(one, str) else one[0])
                yield from referred(one[1:] if isinstance(one, list) else ())
            else:
                yield from referred(one)
    elif isinstance(value, list):
        for one in value:
            yield from referred(one)


class Reader:
    """Makes a graph of a template and its nested one."""

    def __init__(self, template: Template, nested: Template) -> None:
        self._template = template
        self._nested = nested
        self._resources: Mapping[str, Any] = template["Resources"]
        self._graph = Graph()

    def graph(self) -> Graph:
        for name, resource in self._resources.items():
            if resource["Type"] in KINDS:
                self._add(name, resource)
        for name, resource in self._resources.items():
            match resource["Type"]:
                case "AWS::SQS::Queue":
                    self._redrive(name, resource["Properties"])
                case "AWS::Serverless::Function":
                    self._function(name, resource["Properties"])
                case "AWS::Scheduler::Schedule":
                    self._schedule(name, resource["Properties"])
                case "AWS::CloudFormation::Stack":
                    self._observe(resource)
                case _:
                    pass  # what refers to nothing, or is told by those who use it
        self._outsiders()
        return self._graph

    def _default(self, value: Any) -> Any:
        """A value, or the default of the parameter that it comes from."""
        while isinstance(value, Mapping) and len(value) == 1:
            ((key, one),) = value.items()
            if key == "Fn::FindInMap":
                value = one[1]
            elif key == "Ref" and one in self._template["Parameters"]:
                value = self._template["Parameters"][one]["Default"]
            else:
                return one
        return value

    def _add(self, name: str, resource: Template) -> None:
        properties = resource.get("Properties", {})
        self._graph.nodes[name] = Node(
            name,
            resource["Type"],
            words(name.removesuffix("Function")),
            tuple(self._details(resource["Type"], properties)),
            decided_by(self._template, resource),
            "Key" in set(referred(properties)) and resource["Type"] != "AWS::KMS::Key",
        )

    def _details(self, kind: str, properties: Template) -> Iterator[str]:
        match kind:
            case "AWS::SQS::Queue":
                yield f"keeps {properties['MessageRetentionPeriod'] // 86400} days"
            case "AWS::Serverless::Function":
                memory = self._default(self._template["Globals"]["Function"]["MemorySize"])
                yield f"up to {properties['Timeout']} s, {memory} MB"
            case "AWS::Scheduler::Schedule":
                yield str(self._default(properties["ScheduleExpression"]))
            case "AWS::SSM::Parameter":
                yield f"says {properties['Value']}, or all stops"
            case "AWS::KMS::Key":
                yield "encrypts what has a K"
            case "AWS::Logs::LogGroup":
                yield f"keeps {self._default(properties['RetentionInDays'])} days"
            case _:
                return

    def _redrive(self, name: str, properties: Template) -> None:
        if policy := properties.get("RedrivePolicy"):
            (target,) = referred(policy["deadLetterTargetArn"])
            self._graph.connect(name, target, f"after {policy['maxReceiveCount']} receives", failure=True)

    def _function(self, name: str, properties: Template) -> None:
        for event, one in properties.get("Events", {}).items():
            given = one["Properties"]
            if one["Type"] == "SQS":
                (queue,) = referred(given["Queue"])
                self._graph.connect(queue, name, f"batches of up to {self._default(given['BatchSize'])}")
            elif one["Type"] == "EventBridgeRule":
                rule = name + event
                (detail_type,) = given["Pattern"]["detail-type"]
                details = tuple(textwrap.wrap(f"“{detail_type}”", 28))
                self._graph.nodes[rule] = Node(rule, "AWS::Events::Rule", words(event), details)
                self._graph.connect(rule, name)
                self._give_up(rule, given)
        self._api(name)
        (role,) = referred(properties["Role"])
        for actions, resources in self._allowed(role):
            self._use(name, actions, resources)
        asynchronous = properties.get("EventInvokeConfig", {}).get("DestinationConfig", {})
        for target in referred(asynchronous):
            self._graph.connect(name, target, failure=True)

    def _api(self, name: str) -> None:
        if "DevinApiUrl" in set(referred(self._template["Globals"]["Function"]["Environment"])):
            self._graph.connect(name, "api")

    def _allowed(self, role: str) -> Iterator[tuple[set[str], Any]]:
        """What a role may do, and with what."""
        for policy in self._resources[role]["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                # Some are there on a condition.
                plain = statement["Fn::If"][1] if "Fn::If" in statement else statement
                actions = plain["Action"]
                yield {actions} if isinstance(actions, str) else set(actions), plain["Resource"]

    def _use(self, name: str, actions: set[str], resources: Any) -> None:
        targets = [one for one in referred(resources) if one in self._graph.nodes]
        for target in targets:
            dead = target in {edge.target for edge in self._graph.edges if edge.failure}
            if "sqs:SendMessage" in actions:
                self._graph.connect(name, target, failure=dead)
            elif actions & {"secretsmanager:GetSecretValue", "ssm:GetParameter"}:
                self._graph.connect(target, name)
            elif any(action.startswith("dynamodb:") for action in actions):
                self._graph.connect(name, target, both=True)
            elif "logs:PutLogEvents" in actions:
                self._graph.connect(name, target)
        if "events:PutEvents" in actions:
            self._graph.connect(name, "bus")

    def _schedule(self, name: str, properties: Template) -> None:
        (target,) = referred(properties["Target"]["Arn"])
        self._graph.connect(name, target)
        self._give_up(name, properties["Target"])

    def _give_up(self, name: str, given: Template) -> None:
        for target in referred(given.get("DeadLetterConfig", {})):
            self._graph.connect(name, target, "not delivered", failure=True)

    def _outsiders(self) -> None:
        """Those who are named by no resource, and what they use."""
        for name, (title, details) in OUTSIDERS.items():
            self._graph.nodes[name] = Node(name, OUTSIDE, title, details)
        for name, resource in self._resources.items():
            if resource["Type"] == "AWS::Serverless::Function":
                self._graph.connect("callers", name)
            if resource["Type"] == "AWS::SQS::Queue" and resource["Properties"].get("RedrivePolicy"):
                self._graph.connect("producers", name)
        for actions, resources in self._allowed("OneTimeScheduleRole"):
            first, *others = [one for one in referred(resources) if one in self._graph.nodes] or [""]
            if "sqs:SendMessage" in actions:
                self._graph.connect("OneTimeScheduleRole", first)
                for other in others:
                    self._graph.connect("OneTimeScheduleRole", other, "not delivered", failure=True)

    def _observe(self, stack: Template) -> None:
        self._graph.nested_optional = decided_by(self._template, stack)
        for parameter, value in stack["Properties"]["Parameters"].items():
            if parameter.endswith("Name"):
                self._graph.watched += referred(value)
        for name, resource in self._nested["Resources"].items():
            kind = resource["Type"]
            if kind in MANY:
                number = sum(1 for one in self._nested["Resources"].values() if one["Type"] == kind)
                self._graph.nodes[kind] = Node(kind, kind, f"{number} {MANY[kind]}")
            elif kind in KINDS:
                self._graph.nodes[kind] = Node(kind, kind, words(name), optional=decided_by(self._nested, resource))
        self._graph.nested = [name for name in self._graph.nodes if name.startswith("AWS::")]
        for resource in self._nested["Resources"].values():
            for target in (
                self._nested["Resources"][name]["Type"]
                for name in referred(resource.get("Properties", {}))
                if name in self._nested["Resources"]
            ):
                if resource["Type"] == "AWS::CloudWatch::Alarm":
                    self._graph.connect(resource["Type"], target, "ALARM, OK")
                elif resource["Type"] == "AWS::SNS::Subscription":
                    self._graph.connect(target, resource["Type"])


def decided_by(template: Template, resource: Template) -> str:
    """On which parameter it depends whether a resource is made, in words; empty if it always is."""
    if "Condition" not in resource:
        return ""
    condition = template["Conditions"][resource["Condition"]]
    (parameter,) = referred(condition)
    equals = condition.get("Fn::Equals")
    return f"{'unless' if equals and equals[1] == '' else 'if'} {parameter}"


def words(name: str) -> str:
    """A logical id as words: `DeadLetterQueue` is "dead letter queue"."""
    return re.sub(r"\bapi\b", "API", " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)).lower())


def graph() -> Graph:
    """The graph of this project's templates."""
    return Reader(load(), load("infra/observability.yaml")).graph()

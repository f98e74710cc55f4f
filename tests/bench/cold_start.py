"""What a cold start costs: imports, clients, the first invocation; and what the artefact weighs."""

from __future__ import annotations

import json

from tests.bench.artefact import Start, built, placed, sizes, start
from tests.bench.contender import batch
from tests.bench.fleet import Server, Spread
from tests.bench.imports import ALONE, by_package, without
from tests.bench.result import Goal, Section, Table

_INVOKE = """
import json, os, sys
from types import SimpleNamespace
sys.stdout = open(os.devnull, "w")
from {module} import lambda_handler
context = SimpleNamespace(
    aws_request_id="1", function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn",
    get_remaining_time_in_millis=lambda: 60000,
)
lambda_handler(json.loads(os.environ["EVENT"]), context)
"""
_CLIENT = "boto3 + one client"
_CLIENTS = "boto3 + the same three clients"
_IMPORT = "ours: import alone"
_INITIALISED = "ours: initialised, import and three clients"
# With the API's real scheme, for which a TLS context is made. Nothing is called yet.
INITIALISE = "import os; os.environ['DEVIN_API_URL'] = 'https://api.devin.ai'; import terminate.handler"
SCRIPTS = {
    "bare interpreter": "pass",
    _CLIENT: "import boto3; boto3.client('sqs')",
    _CLIENTS: "import boto3; [boto3.client(name) for name in ('sqs', 'ssm', 'secretsmanager')]",
    _IMPORT: ALONE,
    _INITIALISED: INITIALISE,
    "ours: initialised, and clients that few invocations need": (
        f"{INITIALISE}, boto3; [boto3.client(name) for name in ('events', 'dynamodb')]"
    ),
    "first peer: import": "import tests.bench.peers.batch_processor",
    "ours: import and first invocation": _INVOKE.format(module="terminate.handler"),
    "first peer: import and first invocation": _INVOKE.format(module="tests.bench.peers.batch_processor"),
}
_COMPILED, _PLAIN = "with bytecode", "without"


def _spreads(starts: list[Start]) -> tuple[Spread, Spread]:
    return Spread.of([one.wall for one in starts]), Spread.of([one.cpu for one in starts])


def _goals(cpu: dict[tuple[str, str], float]) -> list[Goal]:
    """The goal is about the import; the other rows stand beside it so that nobody takes it for the whole."""
    imported, client = cpu[_IMPORT, _COMPILED], cpu[_CLIENT, _COMPILED]
    plain = cpu[_IMPORT, _PLAIN] / cpu[_CLIENT, _PLAIN]
    initialised = cpu[_INITIALISED, _COMPILED]
    return [
        Goal.at_most("cold import (CPU, with bytecode)", 1.05, _CLIENT, imported / client),
        Goal.told("cold import without bytecode, as `sam build` alone leaves it", f"{plain:.2f} x {_CLIENT}"),
        Goal.told(
            "initialised (import, three clients, TLS context), to the same clients",
            f"{initialised / cpu[_CLIENTS, _COMPILED]:.2f} x {_CLIENTS}",
        ),
        Goal.told(
            "initialised (import, three clients, TLS context), to one client", f"{initialised / client:.2f} x {_CLIENT}"
        ),
    ]


def measure(server: Server, *, quick: bool) -> Section:
    """Fresh processes on the built artefact, with its bytecode and without."""
    repeats = 1 if quick else 9
    with built() as artefact:
        environment = server.environment("fixed-0-0") | {"EVENT": json.dumps(batch(0, 10))}
        places = {_COMPILED: placed(artefact.compiled, environment), _PLAIN: placed(artefact.plain, environment)}
        left_out = without(places[_COMPILED])
        taken: dict[tuple[str, str], list[Start]] = {}
        for repeat in range(repeats + 1):
            for name, script in (SCRIPTS | left_out).items():
                for place, variables in places.items():
                    # It takes long, and varies little.
                    if place == _PLAIN and (repeat > max(repeats // 2, 1) or name in left_out):
                        continue
                    one = start(script, variables)
                    if repeat:  # the first one also fills the page cache
                        taken.setdefault((name, place), []).append(one)
        imports = by_package(artefact.compiled, places[_COMPILED])
        weights = sizes(artefact.compiled)
    spreads = {key: _spreads(starts) for key, starts in taken.items()}
    cpu = {key: one.median for key, (_, one) in spreads.items()}
    whole, client = cpu[_IMPORT, _COMPILED], cpu[_CLIENT, _COMPILED]
    return Section(
        "Cold start",
        [
            (
                f"A fresh interpreter on the built artefact, {repeats} times ({max(repeats // 2, 1)} without "
                "bytecode): time from its start to its end, and CPU of the process. Of the CPU of a whole core: Lambda "
                "gives 512 MB some 29 % of one, but all of one while it initialises. With bytecode: the artefact as "
                "`make build` makes it. Without: as `sam build` alone would, with no `.pyc`, and none can be written, "
                "as in Lambda. The standard library has its bytecode in both cases."
            ),
            (
                "The goal is about the import. Initialised is what Lambda waits for: the handler makes three clients "
                "and a TLS context as it is imported, because it has a whole CPU then; these rows are there to be "
                "compared. The clients of EventBridge and DynamoDB are made when they are first needed."
            ),
            (
                "Without one thing: the import with a stub in its place, or, for its own modules, all else that they "
                "import and not them. What others import as well stays, so the differences do not add up."
            ),
        ],
        [
            Table(
                "Milliseconds",
                ["", *(f"{what}, {place}" for place in places for what in ("time", "CPU"))],
                [[name, *(found.told(1000) for place in places for found in spreads[name, place])] for name in SCRIPTS],
            ),
            Table(
                "Where `import terminate.handler` goes",
                ["package", "ms (self, -X importtime)"],
                [[name, f"{microseconds / 1000:.1f}"] for name, microseconds in imports.most_common(14)],
            ),
            Table(
                "What `import terminate.handler` would be without one thing",
                ["without", "CPU, ms", "less", f"/ {_CLIENT}"],
                [
                    [
                        told,
                        spreads[name, _COMPILED][1].told(1000),
                        f"{(whole - cpu[name, _COMPILED]) * 1000:.1f}",
                        f"{cpu[name, _COMPILED] / client:.3f}",
                    ]
                    for name, told in {_IMPORT: "nothing left out", **{name: name for name in left_out}}.items()
                ],
            ),
            Table("What the artefact weighs", ["package", "KB unpacked", "KB zipped"], weights),
        ],
        _goals(cpu),
    )

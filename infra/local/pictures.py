"""`make pictures`: docs/pictures, from the template and from a run of the demo on the stack on this machine.

The architecture is drawn from the template; the dashboard from its deployed definition and the metrics of the run; the
terminal is what the demo printed. PARTS=architecture draws only what needs no run.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.terminal_theme import MONOKAI

from infra.environments import ROOT
from infra.local.demo import Demo
from infra.local.metrics import Forwarder
from infra.local.pictures_architecture import picture as architecture
from infra.local.pictures_dashboard import Picture
from infra.local.pictures_graph import graph
from infra.local.processes import ProcessFailedError
from infra.local.stack import running_stack

PICTURES = ROOT / "docs" / "pictures"
# As rich draws it, without the font that it would fetch from elsewhere.
TERMINAL = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px; \
line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: Arial, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw_architecture() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / "architecture.svg").write_text(architecture(graph()))


def draw_run() -> bool:
    """Draws dashboard and terminal; says whether the demo went well."""
    console = Console(record=True, width=130, highlight=False, force_terminal=True, file=io.StringIO())
    with running_stack(progress=print) as stack:
        begin = datetime.now(UTC)
        forwarder = Forwarder(stack)
        with forwarder.running():
            print("running the demo")
            went_well = Demo(stack, console).run()
        picture = Picture(stack, begin, datetime.now(UTC)).svg()
    (PICTURES / "dashboard.svg").write_text(picture)
    terminal = console.export_svg(title="make demo", theme=MONOKAI, code_format=TERMINAL, unique_id="demo")
    # Blanks at the ends of lines are no part of the picture.
    (PICTURES / "demo.svg").write_text("\n".join(line.rstrip() for line in terminal.splitlines()) + "\n")
    return went_well


def main(parts: Sequence[str]) -> int:
    if unknown := set(parts) - {"architecture", "run"}:
        print(f"no such pictures: {', '.join(sorted(unknown))} (there are architecture, run)", file=sys.stderr)
        return 2
    try:
        went_well = True
        if not parts or "architecture" in parts:
            draw_architecture()
        if not parts or "run" in parts:
            went_well = draw_run()
        print(f"drawn in {PICTURES.relative_to(ROOT)}")
        return 0 if went_well else 1
    except ProcessFailedError as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

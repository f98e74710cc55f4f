"""`python -m infra.parameters` writes docs/parameters.md from template.yaml; a test holds it to the template."""

from infra.environments import ROOT
from infra.rendered import Json, source

PAGE = ROOT / "docs" / "parameters.md"
_HEAD = """\
# Parameters

`make parameters` writes this page from `template.yaml`. `sam deploy --guided` asks in this order; `sam deploy
--parameter-overrides Name=value` sets one. A parameter that is not named keeps the value of the last deployment.

| parameter | default | values | what it does |
|---|---|---|---|
"""


def page() -> str:
    return _HEAD + "".join(map(_row, *zip(*source()["Parameters"].items(), strict=True)))


def _row(name: str, parameter: Json) -> str:
    default = str(parameter["Default"])
    cells = (f"`{name}`", f"`{default}`" if default else "empty", _values(parameter), parameter["Description"])
    return f"| {' | '.join(cell.replace('|', '\\|').replace('<', '&lt;') for cell in cells)} |\n"


def _values(parameter: Json) -> str:
    match parameter:
        case {"AllowedValues": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"MinValue": low, "MaxValue": high}:
            return f"{low} to {high}"
        case _:
            return str(parameter["ConstraintDescription"]).removeprefix("must be ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

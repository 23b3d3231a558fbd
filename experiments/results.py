"""What an experiment leaves: rows, claims, results.json, and a README whose numbers are filled in from them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import xrayexp

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")

Values: TypeAlias = dict[str, Any]
Rows: TypeAlias = Mapping[str, Values]  # the values of every row, by its key


@dataclass(frozen=True)
class Row:
    """One measurement: what it depends on and, once it is computed, what came out. All of it is plain JSON."""

    key: str
    settings: Values
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """What an experiment shows, as a number and the bound that it keeps."""

    name: str
    value: float
    bound: float
    direction: Literal["at least", "at most"]

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side of the bound."""
        return self.value >= self.bound if self.direction == "at least" else self.value <= self.bound

    def to_json(self) -> Values:
        """Its entry in results.json."""
        return asdict(self) | {"holds": self.holds}


@dataclass(frozen=True)
class Results:
    """The content of results.json; `claims` is empty until all rows are there."""

    experiment: str
    command: str
    environment: Values
    rows: tuple[Row, ...] = ()
    claims: tuple[Values, ...] = ()

    @classmethod
    def read(cls, file: Path) -> Results:
        """Reads results.json."""
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in content.pop("rows"))
        return cls(**content | {"rows": rows, "claims": tuple(content["claims"])})

    def write(self, file: Path) -> None:
        """Writes results.json as a whole or not at all."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False)
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(file)

    @property
    def values(self) -> Rows:
        """The values of every row, by its key."""
        return {row.key: row.values for row in self.rows}


def environment(threads: int) -> Values:
    """What numbers may depend on beside their settings; names neither host nor user."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {name: version(name) for name in LIBRARIES} | {"xrayexp": xrayexp.__version__},
        "commit": _commit(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # only Linux has it
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """The commit of the checkout, with "-dirty" where files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Puts each block between its two markers, `<!-- NAME: filled by run.py -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: a marker is missing.
    """
    for name, block in blocks.items():
        opening, closing = f"<!-- {name}: filled by run.py -->", f"<!-- end of {name} -->"
        before, opened, rest = text.partition(opening)
        _, closed, after = rest.partition(closing)
        if not (opened and closed):
            raise ValueError(f"there is no block '{name}': it stands between '{opening}' and '{closing}'")
        text = f"{before}{opening}\n\n{block.strip()}\n\n{closing}{after}"
    return text


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def claims_block(claims: Sequence[Values]) -> str:
    """The claims as a table, under the number of those that hold."""
    if not claims:
        return "No claims are made: they are about other hardware."
    lines = [
        [c["name"], f"{c['value']:.3g}", f"{c['direction']} {c['bound']:g}", "yes" if c["holds"] else "**no**"]
        for c in claims
    ]
    held = sum(claim["holds"] for claim in claims)
    verdict = f"All {held} claims hold." if held == len(claims) else f"**{held} of {len(claims)} claims hold.**"
    return f"{verdict}\n\n{table(['claim', 'value', 'bound', 'holds'], lines)}"


def environment_block(found: Values) -> str:
    """The environment in one sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"Measured with Python {found['python']}, {versions}, on {found['cpu']} "
        f"({found['cores']} cores, {found['threads']} compute thread{'s' * (found['threads'] > 1)} a row)."
    )

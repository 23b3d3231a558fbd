"""`xrayexp doctor`: everything that a run could need, in one table, each with its fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xrayexp.checks import Check

if TYPE_CHECKING:
    from rich.table import Table

STATUS_STYLES = {"ok": "green", "warning": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Finding:
    """A check, and who needs it.

    Attributes:
        check: what was looked for and found.
        needed_by: the choice that needs it, e.g. "data=padchest"; empty when every run does.
    """

    check: Check
    needed_by: str = ""


def examine(conf: Path) -> Iterator[Finding]:
    """Checks, one after the other, the machine, the weights of every configured model and metric, data and logins.

    Args:
        conf: the folder of the config files.
    """
    from xrayexp.data.checks import padchest_folder
    from xrayexp.memory.segments import allocator
    from xrayexp.metrics.clinical.files import RADGRAPH_MODELS, chexbert_files, radgraph_files
    from xrayexp.models.checks import hub_token, weights
    from xrayexp.tracking.checks import wandb_login
    from xrayexp.training.checks import accelerator, bf16, four_bit, gpu_memory

    yield Finding(accelerator("auto"))
    yield Finding(gpu_memory(), "4B models")
    yield Finding(allocator(_value(conf, [], "memory.expandable_segments") == "True"))
    yield Finding(bf16(), "trainer=gpu_12gb")
    yield Finding(four_bit())
    default = _value(conf, [], "model.pretrained")
    yield Finding(weights(default))
    yield Finding(hub_token(), "gated models")
    for option in sorted(path.stem for path in (conf / "model").glob("*.yaml")):
        pretrained = _value(conf, [f"model={option}"], "model.pretrained")
        if pretrained != default:
            yield Finding(weights(pretrained), f"model={option}")
    yield Finding(padchest_folder(_value(conf, ["data=padchest"], "data.root")), "data=padchest")
    for check in (radgraph_files(RADGRAPH_MODELS[0]), chexbert_files()):
        yield Finding(check, "metrics=clinical")
    yield Finding(wandb_login(), "tracking with W&B")


def table(findings: Sequence[Finding]) -> Table:
    """The findings for a terminal; a fix stands below what it fixes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("check", "status", "found"):
        result.add_column(title, overflow="fold")
    for finding in findings:
        check = finding.check
        name = Text(check.name)
        if finding.needed_by:
            name.append(f"\nfor {finding.needed_by}", style="dim")
        found = Text(check.detail)
        if check.fix:
            found.append(f"\nfix: {check.fix}", style="bold")
        result.add_row(name, Text(check.status, style=STATUS_STYLES[check.status]), found)
    return result


def _value(conf: Path, overrides: list[str], key: str) -> str:
    """One value of the config that `python train.py OVERRIDES` would get; empty when there is none."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        return str(OmegaConf.select(compose("train", overrides), key) or "")

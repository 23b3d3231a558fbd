"""The rules of the house: arrows between rooms point one way, functions fit a screen, files have one subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xrayexp"
FILES = sorted(PACKAGE.rglob("*.py"))
TOP = "top"  # files beside the rooms
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists())

# What stands beside the rooms and every room may use; these import no room themselves.
SHARED = {"errors", "checks", "config", "quiet", "messages", "progress", "replacing", "webpage", "drawing"}
VERSION = "__version__"  # of the package itself

# Room -> the rooms and the modules of other rooms that it may import.
ARROWS: dict[str, set[str]] = {
    "data": set(),
    "metrics": {"data.report", "data.hierarchy", "data.boxes", "data.observations", "data.overlap"},
    "baselines": {"data"},
    "models": set(),
    "adapters": {"models"},
    "training": {"data", "models", "adapters", "metrics", "tracking.examples"},
    "memory": {"models", "adapters", "training.loss"},
    "search": set(),
    "tracking": {"metrics", "search.importance", "search.results"},
    "cli": {
        "compare",
        "data.audit.terminal",
        "data_check",
        "doctor",
        "entry",
        "export",
        "gallery",
        "metrics.clinical",
        "pipeline",
        "planning",
        "settings",
        "tracking",
    },
}
ABOVE_PIPELINE = {"cli", "entry", "export", "trial"}  # rooms and files

LONGEST_FUNCTION = 60
LONGEST_FILE = 400


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else TOP


def imports(path: Path) -> Iterator[str]:
    """What a file imports of this package, wherever it stands, without the package's name: "data.report"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: relative imports hide arrows"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def house_imports(path: Path) -> set[str]:
    prefix = f"{PACKAGE.name}."
    return {name.removeprefix(prefix) for name in imports(path) if name.startswith(prefix)}


def allowed(name: str, permitted: set[str]) -> bool:
    """Whether an imported name lies in a permitted room or module."""
    return any(name == one or name.startswith(f"{one}.") for one in permitted)


def test_every_room_has_its_arrows() -> None:
    assert set(ROOMS) == set(ARROWS)
    assert len(FILES) > 30


@pytest.mark.parametrize("path", [path for path in FILES if room(path) != TOP], ids=relative)
def test_a_room_imports_what_is_below_it(path: Path) -> None:
    here = room(path)
    permitted = ARROWS[here] | SHARED | {here, VERSION}
    assert sorted(name for name in house_imports(path) if not allowed(name, permitted)) == []


def test_what_everybody_uses_knows_no_room() -> None:
    for name in SHARED:
        assert all(allowed(found, SHARED) for found in house_imports(PACKAGE / f"{name}.py")), name


def test_nothing_but_the_entries_knows_the_pipeline() -> None:
    users = {
        path.stem if room(path) == TOP else room(path)
        for path in FILES
        if any(allowed(name, {"pipeline"}) for name in house_imports(path))
    }
    assert users
    assert users <= ABOVE_PIPELINE


@pytest.mark.parametrize("library", ["lightning", "hydra", "wandb"])
def test_rooms_below_training_know_no_framework(library: str) -> None:
    """Except that data hands itself to Lightning in one file, and adapters and metrics are built from their config."""
    known = {"lightning": {"data/datamodule.py"}, "hydra": {"adapters/attach.py", "metrics/registry.py"}}
    users = {
        relative(path)
        for path in FILES
        if room(path) in ("data", "models", "metrics", "adapters")
        and any(name.partition(".")[0] == library for name in imports(path))
    }
    assert users == known.get(library, set())


def test_the_plugins_are_hydras_and_hand_over() -> None:
    plugins = PACKAGE.parent / "hydra_plugins"
    assert not (plugins / "__init__.py").exists()  # it is shared with the plugins of other packages
    found = {name for path in plugins.rglob("*.py") for name in imports(path) if name.startswith(PACKAGE.name)}
    assert found == {"xrayexp.sweeping.sweep", "xrayexp.search.subprocess_launcher.run_job"}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_functions_fit_a_screen_and_files_have_one_subject(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    assert [name for name, lines in functions(path) if lines > LONGEST_FUNCTION] == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))

"""What a user installs: the wheel holds everything, the pins fit the requirements."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = {
    canonicalize_name(name): version
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for name, _, version in [line.partition("==")]
}


def files(folder: str) -> set[str]:
    """The files below a folder of the checkout, relative to the checkout."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_its_configs_and_its_model(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = files("xrayexp") | files("hydra_plugins") | {f"xrayexp/{name}" for name in files("conf")}
    assert held == expected
    assert {"xrayexp/conf/train.yaml", "xrayexp/models/tiny/model.safetensors"} <= held
    assert {"xrayexp/conf/hydra/sweeper/xrayexp.yaml", "hydra_plugins/xrayexp_sweeper/sweeper.py"} <= held
    assert "hydra_plugins/__init__.py" not in held  # it would hide the plugins of other packages


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]])
def test_the_pinned_version_fits_the_range(text: str) -> None:
    requirement = Requirement(text)
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_pins_name_no_build_of_one_machine() -> None:
    assert [version for version in PINS.values() if "+" in version] == []

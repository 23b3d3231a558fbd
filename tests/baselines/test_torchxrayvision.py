"""TorchXRayVision's DenseNet as a baseline: its table, its thresholds, what it says is missing, and the real network.

The network is tried with random weights, laid where the package looks for its own; skipped without the package.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from xrayexp.baselines import torchxrayvision as baseline
from xrayexp.baselines.base import Asked, Training
from xrayexp.baselines.torchxrayvision import LEARNT_FROM, NEVER, TorchXRayVision, best_threshold, read_table
from xrayexp.data.examples import Example
from xrayexp.data.report import STATUSES, Finding, Report
from xrayexp.errors import ConfigError, DataError, RequirementError, UserError

VOCABULARY = json.loads((Path(__file__).parents[1] / "data" / "padchest_vocabulary.json").read_text())
RNG = np.random.default_rng(0)
IMAGES = {f"v{i}": RNG.integers(0, 256, (230 + i, 260), dtype=np.uint8) for i in range(6)}
IMAGES |= {f"a{i}": RNG.integers(0, 256, (260, 230 + i), dtype=np.uint8) for i in range(3)}
TRUTHS = {
    "v0": "normal",
    "v1": "laminar atelectasis",
    "v2": "cardiomegaly",
    "v3": "scoliosis",
    "v4": "normal",
    "v5": "normal",
}
WEIGHTS = "densenet121-res224-nih"


def image(image_id: str) -> NDArray[np.uint8]:
    if image_id not in IMAGES:
        raise DataError(f"{image_id}: truncated")
    return IMAGES[image_id]


def training(ids: Sequence[str] = tuple(TRUTHS)) -> Training:
    examples = [Example(one, one, one, (Finding(TRUTHS.get(one, "normal")),)) for one in ids]
    return Training((), image, examples)


def test_the_table_speaks_padchests_vocabulary() -> None:
    table = read_table()
    assert len(table) == 18
    assert {label for labels in table.values() for label in labels} <= set(VOCABULARY["findings"]) - STATUSES
    assert all(len(set(labels)) == len(labels) > 0 for labels in table.values())
    assert table["Effusion"][0] == "pleural effusion"


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.51, 0.9, 1.0]), st.booleans()), min_size=1, max_size=12)
)
def test_the_threshold_has_the_best_f1(cases: list[tuple[float, bool]]) -> None:
    """Against scikit-learn's F1 of every threshold that makes a difference; the highest of equals."""
    scores, true = np.array([s for s, _ in cases], dtype=np.float32), np.array([t for _, t in cases])
    found = best_threshold(scores, true)
    if not true.any():
        assert found == NEVER
        return
    f1 = {float(one): f1_score(true, scores >= one) for one in scores}
    best = [one for one, value in f1.items() if value == pytest.approx(max(f1.values()))]
    assert found == pytest.approx(max(best))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"weights": "resnet50-res512-all"}, "weights must be one of densenet121-res224-all"),
        ({"thresholds": "test"}, "thresholds must be one of validation, own"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TorchXRayVision(**arguments)


def test_thresholds_are_not_chosen_on_what_is_asked_about() -> None:
    with pytest.raises(UserError, match=r"cannot be judged on it.*thresholds=own"):
        TorchXRayVision().check(training(), Asked(("v0",), image))
    with pytest.raises(UserError, match="no validation split"):
        TorchXRayVision().check(training(()), Asked(("a0",), image))


@pytest.mark.skipif(find_spec("torchxrayvision") is not None, reason="the package is there")
def test_a_missing_package_is_one_sentence() -> None:
    for thresholds in ("validation", "own"):
        with pytest.raises(RequirementError, match=r"not installed\n +fix: `pip install torchxrayvision"):
            TorchXRayVision(thresholds=thresholds).check(training(), Asked(("a0",), image))


@pytest.fixture(scope="module")
def package() -> Any:
    """The real package."""
    found = baseline.installed()
    if found.status != "ok":
        pytest.skip(f"{found.name}: {found.detail}")
    return pytest.importorskip("torchxrayvision")


@pytest.fixture(scope="module")
def home(package: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with random weights, as the package stores its own: a whole pickled network."""
    import torch

    folder = tmp_path_factory.mktemp("home")
    path = (
        folder / ".torchxrayvision" / "models_data" / package.models.model_urls[WEIGHTS]["weights_url"].split("/")[-1]
    )
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(package.models.DenseNet(), path)
    return folder


def named(method: TorchXRayVision, asked: Sequence[str]) -> dict[str, Report]:
    about = Asked(asked, image, "padchest")
    method.check(training(), about)
    return dict(method.answers(training(), about))


def test_missing_weights_are_named_with_their_command(
    package: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RequirementError, match="is not there") as caught:
        named(TorchXRayVision(), ["a0"])
    assert not list(tmp_path.iterdir()), "nothing is downloaded"
    [check] = caught.value.checks
    command = check.fix.strip("`").removeprefix("python -c ").strip('"')
    monkeypatch.setenv("HOME", str(home))  # where it finds them, and asks no network
    found = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_weights_that_were_cut_off_are_named(
    package: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    [whole] = home.rglob("*.pt")
    path = tmp_path / whole.relative_to(home)
    path.parent.mkdir(parents=True)
    path.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cannot be loaded as weights .* delete it, then"):
        named(TorchXRayVision(), ["a0"])


def test_it_answers_as_the_package_would(package: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the operating points: image by image, cropped, scaled and resized by the package itself; in any batches."""
    import torch

    monkeypatch.setenv("HOME", str(home))
    model = package.models.get_model(WEIGHTS)
    table, expected = read_table(), {}
    for one in ("a0", "a1", "a2"):
        pixels = package.datasets.XRayCenterCrop()(package.datasets.normalize(IMAGES[one], 255, reshape=True))
        with torch.inference_mode():
            outputs = model(torch.from_numpy(pixels)[None])[0].tolist()
        found = [table[label][0] for label, value in zip(model.targets, outputs, strict=True) if label and value >= 0.5]
        expected[one] = Report(tuple(map(Finding, found or ["normal"])))
    assert len({finding for report in expected.values() for finding in report.findings}) > 1
    for size in (1, 32):
        assert named(TorchXRayVision(thresholds="own", batch_size=size, accelerator="cpu"), list(expected)) == expected


def test_thresholds_come_from_validation(
    package: Any, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pathology that is true nowhere there is never named; images that cannot be read are left out."""
    monkeypatch.setenv("HOME", str(home))
    found = named(TorchXRayVision(accelerator="cpu"), ["a0", "broken", "a2"])
    assert list(found) == ["a0", "a2"]
    names = {finding.name for report in found.values() for finding in report.findings}
    assert names <= {"atelectasis", "cardiomegaly", "normal"}
    assert "left out: broken: truncated" in caplog.messages
    # Asked about validation images, against the rules, each pathology's best F1 finds its own.
    again = dict(TorchXRayVision(accelerator="cpu").answers(training(), Asked(("v1", "v2"), image)))
    assert Finding("atelectasis") in again["v1"].findings
    assert Finding("cardiomegaly") in again["v2"].findings


def test_images_that_the_weights_learnt_from_are_said(
    package: Any, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(home))
    for data, said in (("padchest", 0), ("nih", 1)):
        TorchXRayVision(WEIGHTS, "own").check(training(), Asked(("a0",), image, data))
        assert sum("learnt from images of nih" in message for message in caplog.messages) == said


def test_the_package_leaves_everybodys_warnings_alone(package: Any) -> None:
    assert not any(action == "ignore" and category is Warning and message is None
                   for action, message, category, *_ in warnings.filters)  # fmt: skip


def test_every_set_of_weights_is_known_and_its_labels_are_in_the_table(package: Any) -> None:
    known = {name for name in package.models.model_urls if name.startswith("densenet")}
    assert set(LEARNT_FROM) == known
    for name in known:
        assert {label for label in package.models.model_urls[name]["labels"] if label} <= read_table().keys()

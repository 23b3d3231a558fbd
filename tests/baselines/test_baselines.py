"""Baselines: what they answer, that they need no truth, and that the nearest image is the nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from xrayexp.baselines.base import Asked, Baseline, Training
from xrayexp.baselines.config import BaselineSection
from xrayexp.baselines.majority import Majority
from xrayexp.baselines.nearest import BLOCK, NearestNeighbour, nearest
from xrayexp.baselines.prior import Prior
from xrayexp.data.examples import Example
from xrayexp.data.report import Finding, Report
from xrayexp.errors import DataError

MASS, NORMAL, NODULE = (Finding(name) for name in ("mass", "normal", "nodule"))
FINDINGS = [(MASS,), (NORMAL,), (MASS, NODULE), (NORMAL,), (NODULE,)]
RNG = np.random.default_rng(0)
IMAGES = {f"{i}": RNG.integers(0, 256, (40 + i, 50), dtype=np.uint8) for i in range(len(FINDINGS))}


def broken(image_id: str) -> NDArray[np.uint8]:
    raise DataError(f"{image_id}: truncated")


def training(images: Mapping[str, Any] = IMAGES) -> Training:
    examples = [Example(f"{i}", f"p{i}", f"s{i}", findings) for i, findings in enumerate(FINDINGS)]
    return Training(examples, lambda image_id: images[image_id] if image_id in images else broken(image_id))


def answers(baseline: Baseline, asked: Iterable[str], images: Mapping[str, Any] = IMAGES) -> dict[str, Report]:
    lookup = dict(images)
    return dict(baseline.answers(training(), Asked(tuple(asked), lambda one: lookup.get(one, broken))))


def test_majority_is_the_most_frequent_report() -> None:
    """It looks at no image."""
    found = dict(Majority().answers(Training(training().examples, broken), Asked(("a", "b"), broken)))
    assert found == {"a": Report((NORMAL,)), "b": Report((NORMAL,))}


def test_prior_draws_training_reports_with_their_frequency() -> None:
    asked = [f"image {i}" for i in range(5000)]
    found = dict(Prior(seed=1).answers(Training(training().examples, broken), Asked(asked, broken)))
    times = Counter(report.findings for report in found.values())
    assert times.keys() == set(FINDINGS)
    assert times[(NORMAL,)] / 5000 == pytest.approx(2 / 5, abs=0.03)
    assert answers(Prior(seed=1), asked[::-7]) == {one: found[one] for one in asked[::-7]}  # whatever else is asked
    assert answers(Prior(seed=2), asked) != found


def test_the_nearest_image_of_a_copy_is_its_original() -> None:
    """Of one that is brighter by a grey value, too."""
    brighter = {key: np.clip(image.astype(int) + 1, 0, 255).astype(np.uint8) for key, image in IMAGES.items()}
    for images in (IMAGES, brighter):
        found = answers(NearestNeighbour(16), ["3", "0", "2"], images)
        assert list(found.items()) == [(one, Report(FINDINGS[int(one)])) for one in ("3", "0", "2")]


def test_images_that_cannot_be_read_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    readable = {key: image for key, image in IMAGES.items() if key != "1"}
    method = NearestNeighbour(16)
    asked = Asked(("1", "2"), lambda one: IMAGES["2"] if one == "2" else broken(one))
    assert dict(method.answers(training(readable), asked)) == {"2": Report(FINDINGS[2])}
    assert caplog.messages == ["left out: 1: truncated"] * 2
    with pytest.raises(DataError, match="none of the training images"):
        list(method.answers(Training(training().examples, broken), asked))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 6).flatmap(
        lambda pixels: st.tuples(*[arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.just(pixels)))] * 2)
    )
)
def test_distances_are_exact(both: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    asked, known = both
    differences = asked[:, None].astype(int) - known[None].astype(int)
    assert nearest(asked, known).tolist() == (differences**2).sum(axis=2).argmin(axis=1).tolist()


def test_blocks_are_joined() -> None:
    """Neighbours in every block, and the first of two that are the same."""
    known = np.arange(2 * BLOCK + 10)[:, None] // np.array([[256, 1]]) % 256
    known = np.concatenate([known, known[:5]]).astype(np.uint8)
    chosen = np.array([0, BLOCK - 1, BLOCK, 2 * BLOCK + 9])
    assert nearest(known[chosen], known).tolist() == chosen.tolist()


@pytest.mark.parametrize(
    "target, words",
    [
        ({"_target_": "xrayexp.baselines.nearest.NearestNeighbour", "size": 0}, "size must be at least 1"),
        ({"_target_": "xrayexp.baselines.prior.Prior", "seed": -1}, "seed must be at least 0"),
        ({"_target_": "xrayexp.data.report.Report", "findings": []}, "is no baseline, but Report"),
        ({"_target_": "xrayexp.baselines.prior.Prior", "sead": 1}, "sead"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(target: dict[str, Any], words: str) -> None:
    [problem] = BaselineSection({"mine": target, "off": None}, base_model=False).problems()
    assert problem.startswith("baseline.methods.mine: ")
    assert words in problem

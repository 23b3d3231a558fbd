"""TorchXRayVision's DenseNet-121: what a classifier that others trained sees.

Cohen et al., TorchXRayVision: A library of chest X-ray datasets and models (MIDL 2022, arXiv 2111.00595). Neither the
package nor its weights come with this one, and nothing is downloaded here.
"""

from __future__ import annotations

import logging
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from xrayexp.baselines.base import Asked, Baseline, Image, Training
from xrayexp.baselines.reading import read_images
from xrayexp.checks import Check, require
from xrayexp.data.report import NORMAL, Finding, Report
from xrayexp.errors import ConfigError, UserError

if TYPE_CHECKING:
    from xrayexp.data.examples import Example

log = logging.getLogger(__name__)

TABLE = Path(__file__).with_name("pathologies.yaml")
PACKAGE = "torchxrayvision"

LEARNT_FROM = {
    "densenet121-res224-all": ("nih", "padchest", "padchest_gr", "chexpert", "mimic"),
    "densenet121-res224-rsna": ("nih",),  # whose images RSNA's challenge took
    "densenet121-res224-nih": ("nih",),
    "densenet121-res224-pc": ("padchest", "padchest_gr"),
    "densenet121-res224-chex": ("chexpert",),
    "densenet121-res224-mimic_nb": ("mimic",),
    "densenet121-res224-mimic_ch": ("mimic",),
}
"""Weights, and the data sets of conf/data/ whose images they learnt from."""

THRESHOLDS = ("validation", "own")
OPERATING_POINT = 0.5  # the package scales its outputs so that each pathology's own threshold becomes this
NEVER = np.inf
SIZE = 224  # pixels of a side, of all of these weights


class TorchXRayVision(Baseline):
    """Names the pathologies whose output reaches their threshold, by the table's names, and no places.

    Args:
        weights: one of `LEARNT_FROM`.
        thresholds: `validation` takes the one with the best F1 on the validation split; `own` the operating points that
            the package ships, where sensitivity plus specificity was best on images of its own training sets.
        batch_size: images that go through the network together.
        accelerator: `cpu` for the CPU; otherwise the first GPU if there is one.

    Raises:
        ConfigError: weights or thresholds that do not exist, or batches of no image.
    """

    def __init__(
        self,
        weights: str = "densenet121-res224-nih",
        thresholds: str = "validation",
        batch_size: int = 32,
        accelerator: str | None = None,
    ) -> None:
        problems = []
        if weights not in LEARNT_FROM:
            problems.append(f"weights must be one of {', '.join(LEARNT_FROM)}, not '{weights}'")
        if thresholds not in THRESHOLDS:
            problems.append(f"thresholds must be one of {', '.join(THRESHOLDS)}, not '{thresholds}'")
        if batch_size < 1:
            problems.append(f"batch_size must be at least 1, not {batch_size}")
        if problems:
            raise ConfigError(problems)
        self.weights, self.thresholds, self.batch_size, self.accelerator = weights, thresholds, batch_size, accelerator

    def check(self, training: Training, asked: Asked) -> None:
        """Looks for the package and the weights, and whether thresholds can be chosen without seeing the answers."""
        if self.thresholds == "validation":
            advice = "set baseline.methods.torchxrayvision.thresholds=own"
            if not training.validation:
                raise UserError(f"the run has no validation split, on which thresholds would be chosen: {advice}")
            if not {example.image_id for example in training.validation}.isdisjoint(asked.image_ids):
                raise UserError(
                    "torchxrayvision chooses its thresholds on the validation split, and cannot be judged on it: "
                    f"leave split=validation out, or {advice}"
                )
        require([installed()])
        require([weights_file(self.weights)])
        if asked.data in LEARNT_FROM[self.weights]:
            log.warning(
                "%s learnt from images of %s, perhaps from those that are asked about: its scores may be too good",
                self.weights, asked.data,
            )  # fmt: skip

    def answers(self, training: Training, asked: Asked) -> Iterator[tuple[str, Report]]:
        """Reads every validation image once where thresholds are chosen on them.

        Raises:
            UserError: the weights cannot be loaded, or no validation image can be read.
        """
        table, model = read_table(), _Classifier(self.weights, self.accelerator)
        names = {place: table[label] for place, label in enumerate(model.labels) if label}
        thresholds = np.full(len(model.labels), OPERATING_POINT)
        if self.thresholds == "validation":
            thresholds = self._chosen(model, names, training)
        for image_id, outputs in self._outputs("images asked about", model, asked.image_ids, asked.image):
            named = dict.fromkeys(names[place][0] for place in names if outputs[place] >= thresholds[place])
            yield image_id, Report(tuple(Finding(name) for name in named or [NORMAL]))

    def _chosen(
        self, model: _Classifier, names: Mapping[int, Sequence[str]], training: Training
    ) -> NDArray[np.float64]:
        """The threshold of every output, [pathologies]."""
        image_ids = [example.image_id for example in training.validation]
        outputs = dict(self._outputs("validation images", model, image_ids, training.image))
        if not outputs:
            raise UserError("none of the validation images can be read: no threshold can be chosen")
        read = [example for example in training.validation if example.image_id in outputs]
        scores = np.stack([outputs[example.image_id] for example in read])  # [images, pathologies]
        found = np.full(len(model.labels), NEVER)
        for place, synonyms in names.items():
            found[place] = best_threshold(scores[:, place], _stated(read, synonyms))
        told = ", ".join(
            f"{model.labels[n]} {found[n]:.3f}" if found[n] < NEVER else f"{model.labels[n]} never" for n in names
        )
        log.info("thresholds with the best F1 on %s validation images: %s", f"{len(read):,}", told)
        return found

    def _outputs(
        self, title: str, model: _Classifier, image_ids: Sequence[str], image: Image
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Every readable image's outputs, [pathologies]."""
        images = read_images(title, image_ids, image, prepared)
        while some := list(islice(images, self.batch_size)):
            outputs = model(np.stack([pixels for _, pixels in some]))
            yield from ((image_ids[place], row) for (place, _), row in zip(some, outputs, strict=True))


class _Classifier:
    """The package's network; its chatter goes to standard error."""

    def __init__(self, weights: str, accelerator: str | None) -> None:
        import torch

        models = _package().models
        usable = accelerator != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda", 0) if usable else torch.device("cpu")
        try:
            with redirect_stdout(sys.stderr):
                network = models.DenseNet(weights=weights)
        # What torch.load and load_state_dict raise for a file that was cut off, or is something else.
        except (OSError, EOFError, RuntimeError, AttributeError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            advice = f"delete it, then {_fetch(weights)}"
            raise UserError(f"{_path(weights)}: cannot be loaded as weights ({reason}): {advice}") from error
        self.model = network.to(self.device).eval()
        self.labels: list[str] = network.targets  # '' where the weights know less than their siblings

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled outputs [images, pathologies], 0 to 1, of images [images, 1, SIZE, SIZE]."""
        import torch

        with torch.inference_mode(), redirect_stdout(sys.stderr):
            outputs: NDArray[np.float32] = self.model(torch.from_numpy(images).to(self.device)).cpu().numpy()
        return outputs


def prepared(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image as the network knows them: the middle square, from -1024 to 1024.

    Args:
        image: [height, width].

    Returns:
        [1, SIZE, SIZE]. Resized as the network itself would resize a single image.
    """
    import torch
    from torch.nn.functional import interpolate

    datasets = _package().datasets
    square = datasets.XRayCenterCrop()(datasets.normalize(image, 255, reshape=True))  # [1, side, side]
    resized = interpolate(torch.from_numpy(square)[None], size=(SIZE, SIZE), mode="bilinear", antialias=True)
    pixels: NDArray[np.float32] = resized[0].numpy()
    return pixels


def best_threshold(scores: NDArray[np.float32], true: NDArray[np.bool_]) -> float:
    """The score from which on a pathology is named so that its F1 is best; of several the highest.

    Args:
        scores: [images].
        true: [images].

    Returns:
        `NEVER` where nothing is true: naming it could only be wrong.
    """
    if not true.any():
        return float(NEVER)
    order = np.argsort(-scores, kind="stable")  # the surest first
    falling, named = scores[order], np.arange(1, len(scores) + 1)
    f1 = 2 * true[order].cumsum() / (named + true.sum())
    last_of_equals = np.append(np.diff(falling) != 0, True)  # a threshold names all of them or none
    return float(falling[np.where(last_of_equals, f1, -1).argmax()])


def read_table() -> dict[str, tuple[str, ...]]:
    """PadChest's labels of every pathology, the one that is named first."""
    table: dict[str, list[str]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {pathology: tuple(labels) for pathology, labels in table.items()}


def installed() -> Check:
    """Whether the package can be imported; that takes seconds."""
    name = f"package {PACKAGE}"
    if find_spec(PACKAGE) is None:
        return Check(name, "missing", "not installed", _install())
    try:
        _package()
    except ImportError as error:
        return Check(name, "missing", f"cannot be imported ({error})", _install())
    return Check(name, "ok", "installed")


def weights_file(weights: str) -> Check:
    """Whether the package would find the file of some weights; asks no network."""
    path = _path(weights)
    if not path.is_file():
        return Check(f"weights {weights}", "missing", f"{path} is not there", _fetch(weights))
    return Check(f"weights {weights}", "ok", str(path))


def _path(weights: str) -> Path:
    """Where the package looks for weights."""
    package = _package()
    url: str = package.models.model_urls[weights]["weights_url"]
    return Path(package.utils.get_cache_dir()) / url.rpartition("/")[2]


def _fetch(weights: str) -> str:
    return f"""`python -c "import {PACKAGE}; {PACKAGE}.models.get_weights('{weights}')"`"""


@cache
def _package() -> Any:
    """The package, without its filter for everybody's warnings; to be called once before there are threads."""
    with warnings.catch_warnings():
        import torchxrayvision

    return torchxrayvision


def _install() -> str:
    """The command that brings the torchvision of this build of torch; another's breaks torchmetrics, too."""
    import torch

    build = torch.__version__.partition("+")[2]  # cpu, cu130; none of torch that was built here
    index = f" --extra-index-url https://download.pytorch.org/whl/{build}" if build else ""
    return f"`pip install {PACKAGE}{index}`"


def _stated(examples: Sequence[Example], names: Sequence[str]) -> NDArray[np.bool_]:
    """Where any of the names is true, [images]."""
    return np.array([any(finding.name in names for finding in example.findings) for example in examples])

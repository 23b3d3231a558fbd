"""CheXbert's labels of true and predicted reports, through the package f1chexbert.

Smit et al., CheXbert: Combining Automatic Labelers and Expert Annotations for Accurate Radiology Report Labeling Using
BERT, EMNLP 2020. f1chexbert 0.0.2 was written for transformers 4 and scikit-learn 1.7; this module holds all that
newer ones need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xrayexp.checks import require
from xrayexp.errors import UserError
from xrayexp.metrics.clinical.files import (
    CHEXBERT_ENCODER,
    FETCH,
    chexbert_checkpoint,
    chexbert_files,
    encoder_folder,
)
from xrayexp.metrics.clinical.imported import imported, replaced
from xrayexp.metrics.clinical.texts import require_pairs

if TYPE_CHECKING:
    import torch

LABELS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
"""CheXpert's labels, in the order of CheXbert's heads."""

FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""Those of CheXpert's competition."""

BLANK, POSITIVE, NEGATIVE, UNCERTAIN = range(4)
"""What CheXbert says of a label; of No Finding only the first two."""

_BATCH = 32
_MAX_TOKENS = 512
# A buffer that transformers 4.30 and older wrote into checkpoints; its numbers are 0, 1, 2 ...
_NO_WEIGHTS = {"bert.embeddings.position_ids"}


@dataclass(frozen=True, slots=True)
class ChexbertRows:
    """What CheXbert says of each report: positive or uncertain is 1, negative or not mentioned 0.

    Attributes:
        truths: [reports, 14], columns as LABELS.
        predictions: [reports, 14].
        version: of the package.
    """

    truths: NDArray[np.bool_]
    predictions: NDArray[np.bool_]
    version: str


def chexbert_rows(*, truths: Sequence[str], predictions: Sequence[str], device: str | None = None) -> ChexbertRows:
    """Labels each report, as F1CheXbert does.

    Args:
        truths: the true reports.
        predictions: the reports that a model wrote, in the same order.
        device: such as cpu; None for the GPU if there is one.

    Raises:
        RequirementError: weights are missing.
        UserError: weights and tokenizer do not belong together.
    """
    require_pairs(truths, predictions)
    labeler = Chexbert(device)
    # One pass over both, so that a report that stands on both sides is labelled once.
    positive = np.isin(labeler.classes([*truths, *predictions]), (POSITIVE, UNCERTAIN))
    return ChexbertRows(positive[: len(truths)], positive[len(truths) :], version("f1chexbert"))


class Chexbert:
    """CheXbert, loaded by f1chexbert's own constructor from the files on this machine.

    Args:
        device: such as cpu; None for the GPU if there is one.

    Raises:
        RequirementError: weights are missing.
        UserError: weights and tokenizer do not belong together.
    """

    def __init__(self, device: str | None = None) -> None:
        require([chexbert_files()])
        package = imported("f1chexbert.f1chexbert")
        folder = encoder_folder(CHEXBERT_ENCODER)
        assert folder is not None  # `require` has looked
        local = {name: _Local(getattr(package, name), folder) for name in ("BertTokenizer", "AutoConfig")}
        strict = replaced(package.bert_labeler, load_state_dict=_load_all)
        with strict, replaced(package, **local, CACHE_DIR=str(chexbert_checkpoint().parent)):
            self._scorer = package.F1CheXbert(device=device)
        self._tokenizer = self._scorer.tokenizer
        rows = self._scorer.model.bert.config.vocab_size
        if len(self._tokenizer) != rows:
            raise UserError(
                f"CheXbert has {rows:,} words and the tokenizer in {folder} {len(self._tokenizer):,}: delete that "
                f"folder, then `{FETCH}`"
            )

    def classes(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """BLANK, POSITIVE, NEGATIVE or UNCERTAIN for each text and label: [texts, 14].

        What is beyond 512 wordpieces is not read, as in the package.
        """
        import torch

        spaced = [" ".join(text.split()) for text in texts]
        known = sorted(set(spaced), key=lambda text: (len(text), text))  # texts of like length need little padding
        found: dict[str, NDArray[np.int64]] = {}
        for start in range(0, len(known), _BATCH):
            batch = known[start : start + _BATCH]
            with torch.no_grad():
                found.update(zip(batch, self._batch(batch), strict=True))
        return np.array([found[text] for text in spaced], dtype=np.int64).reshape(-1, len(LABELS))

    def _batch(self, texts: list[str]) -> NDArray[np.int64]:
        """[texts, 14]."""
        options = {"truncation": True, "max_length": _MAX_TOKENS, "padding": True, "return_tensors": "pt"}
        inputs = self._tokenizer(texts, **options).to(self._scorer.device)
        logits = self._scorer.model(inputs["input_ids"], inputs["attention_mask"])  # 14 x [texts, 4 or 2]
        return np.stack([head.argmax(dim=1).cpu().numpy() for head in logits], axis=1)


class _Local:
    """Stands for a class of transformers in the package: loads from one folder, whatever name is asked for.

    By name, transformers would ask the hub whether its copy is the newest, and wait where there is no network.
    """

    def __init__(self, original: Any, folder: Path) -> None:
        self._original, self._folder = original, folder

    def from_pretrained(self, _: str) -> Any:
        return self._original.from_pretrained(self._folder, local_files_only=True)


def _load_all(model: torch.nn.Module, state_dict: Mapping[str, Any], strict: bool) -> None:
    """In place of `load_state_dict(..., strict=False)`, which leaves random numbers where weights are missing."""
    del strict
    from torch.nn import Module

    given = {name: tensor for name, tensor in state_dict.items() if name not in _NO_WEIGHTS}
    try:
        Module.load_state_dict(model, given, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{chexbert_checkpoint()} holds other weights than CheXbert's ({reason[:200]}): delete it, then `{FETCH}`"
        ) from error

"""RadGraph F1 of each predicted report, through the package radgraph.

Jain et al., RadGraph: Extracting Clinical Entities and Relations from Radiology Reports, NeurIPS Datasets 2021;
Delbrouck et al., RadGraph-XL, Findings of ACL 2024. radgraph 0.1.18 was written for transformers 4; this module holds
all that newer ones need.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrayexp.checks import require
from xrayexp.errors import UserError
from xrayexp.metrics.clinical.files import (
    FETCH,
    RADGRAPH_MODELS,
    encoder_folder,
    radgraph_cache,
    radgraph_encoder,
    radgraph_files,
    radgraph_folder,
)
from xrayexp.metrics.clinical.imported import imported, replaced
from xrayexp.metrics.clinical.texts import require_pairs, unique
from xrayexp.progress import watch

LEVELS = ("simple", "partial", "complete")
"""What must agree: an entity's words and label; and whether it has a relation; and each relation with its target."""


_ROUNDED_UP = 128  # some encoders have rows that no word uses, so that their number is a multiple of 64 or 128


@dataclass(frozen=True, slots=True)
class RadGraphRows:
    """RadGraph F1 of each report.

    Attributes:
        scores: level to [reports], 0 to 1. A report without entities on either side scores 0, even where neither
            side has any: so does the package, and so do published figures.
        model: that extracted the entities.
        version: of the package.
    """

    scores: dict[str, NDArray[np.float64]]
    model: str
    version: str


def radgraph_rows(
    *,
    truths: Sequence[str],
    predictions: Sequence[str],
    model: str = RADGRAPH_MODELS[0],
    device: str | None = None,
) -> RadGraphRows:
    """Scores each report, as F1RadGraph does with `reward_level="all"`.

    Args:
        truths: the true reports.
        predictions: the reports that a model wrote, in the same order.
        model: one of RADGRAPH_MODELS.
        device: such as cpu; None for the GPU if there is one.

    Raises:
        RequirementError: weights are missing.
        UserError: weights and tokenizer do not belong together.
    """
    require_pairs(truths, predictions)
    reader = RadGraph(model, device)
    texts = unique(truths, predictions)
    graphs = dict(zip(texts, reader.graphs(texts), strict=True))
    compute_reward = imported("radgraph.rewards").compute_reward
    rows = np.zeros((len(truths), len(LEVELS)))
    for row, truth, prediction in zip(rows, truths, predictions, strict=True):
        if truth in graphs and prediction in graphs:
            row[:] = compute_reward(graphs[prediction], graphs[truth], "all")
    return RadGraphRows(dict(zip(LEVELS, rows.T, strict=True)), model, version("radgraph"))


class RadGraph:
    """RadGraph, loaded by the package's own constructor from the files on this machine.

    Args:
        model: one of RADGRAPH_MODELS.
        device: such as cpu; None for the GPU if there is one.

    Raises:
        RequirementError: weights are missing.
        UserError: weights and tokenizer do not belong together.
    """

    def __init__(self, model: str = RADGRAPH_MODELS[0], device: str | None = None) -> None:
        require([radgraph_files(model)])
        package, cached = imported("radgraph.radgraph"), imported("radgraph.allennlp.common.cached_transformers")
        encoder = _Encoder(radgraph_encoder(model))
        with replaced(cached, get=encoder.model, get_tokenizer=encoder.tokenizer), _captured():
            try:
                self._model = package.RadGraph(
                    model_type=model, model_cache_dir=str(radgraph_cache()), cuda=_cuda(device)
                )
            except RuntimeError as error:  # load_state_dict's
                reason = " ".join(str(error).split())
                raise UserError(
                    f"{radgraph_folder(model)} holds other weights than RadGraph's ({reason[:200]}): delete it, "
                    f"then `{FETCH}`"
                ) from error

    def graphs(self, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The entities and relations of each text, in the package's own form.

        The model takes one text at a time ("multi-document minibatching not yet supported"); the package's
        `batch_size` is without effect.

        Args:
            texts: none of them blank.

        Raises:
            RuntimeError: the package could not read a text; it says so on stderr and goes on without it.
        """
        import torch

        for text in watch("RadGraph", texts, len(texts)):
            with torch.no_grad(), _captured() as said:
                found = self._model([text])
            if "0" not in found:
                raise RuntimeError(f"RadGraph failed on {text[:60]!r}: {said.getvalue().strip()}")
            yield found["0"]


class _Encoder:
    """What the package gets from transformers, out of the hub's cache instead of from the hub.

    By name, transformers would ask the hub whether its copy is the newest, and wait where there is no network.

    Raises:
        UserError: the tokenizer has another number of words than the encoder.
    """

    def __init__(self, hub_id: str) -> None:
        from transformers import AutoConfig, AutoTokenizer

        folder = encoder_folder(hub_id)
        assert folder is not None  # `require` has looked
        self._config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self._tokenizer = _Transformers4(AutoTokenizer.from_pretrained(folder, local_files_only=True))
        _require_same_words(folder, len(self._tokenizer), self._config.vocab_size)

    def model(self, *_: object, **__: object) -> Any:
        """In place of `cached_transformers.get`: the architecture; the checkpoint brings the weights."""
        from transformers import AutoModel

        return AutoModel.from_config(self._config)

    def tokenizer(self, *_: object, **__: object) -> _Transformers4:
        """In place of `cached_transformers.get_tokenizer`."""
        return self._tokenizer


class _Transformers4:
    """A tokenizer with the two methods that transformers 5 no longer has."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def encode_plus(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        return self._tokenizer(text, text_pair, **options)

    def build_inputs_with_special_tokens(self, token_ids: list[int]) -> list[int]:
        """[CLS] A B [SEP]: BERT's, as every encoder of RADGRAPH_MODELS has it."""
        return [self._tokenizer.cls_token_id, *token_ids, self._tokenizer.sep_token_id]


def _require_same_words(folder: Path, words: int, rows: int) -> None:
    if not rows - _ROUNDED_UP < words <= rows:
        raise UserError(
            f"RadGraph's encoder has {rows:,} words and the tokenizer in {folder} {words:,}: delete that folder, "
            f"then `{FETCH}`"
        )


def _cuda(device: str | None) -> int | None:
    """The package's name for a device: -1 is the CPU, None the first GPU if there is one."""
    import torch

    if device is None:
        return None
    chosen = torch.device(device)
    return -1 if chosen.type == "cpu" else chosen.index or 0


@contextmanager
def _captured() -> Iterator[io.StringIO]:
    """Keeps what the package prints; a note on every report of one word is left out.

    That the model may break on such a report: it does not, a test has one.
    """
    said = io.StringIO()
    with redirect_stdout(said), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Document \d+ has a sentence with a single token")
        yield said

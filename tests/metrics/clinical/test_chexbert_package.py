"""CheXbert's labels through f1chexbert, on stand-in weights: what the untouched package says, and refusals."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.metrics.clinical.standins import BERT, PAIRS, TEXTS
from xrayexp.errors import RequirementError, UserError
from xrayexp.metrics.clinical.chexbert_package import (
    BLANK,
    LABELS,
    NEGATIVE,
    POSITIVE,
    UNCERTAIN,
    Chexbert,
    chexbert_rows,
)
from xrayexp.metrics.clinical.imported import imported

IN_THE_PACKAGE = {"": BLANK, 1: POSITIVE, 0: NEGATIVE, -1: UNCERTAIN}
CPU = "cpu"


@pytest.fixture
def own_standins(use_standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of CheXbert's stand-ins, to break."""
    shutil.copytree(use_standins / "chexbert", tmp_path / "chexbert")
    shutil.copytree(use_standins / "hub" / f"models--{BERT}", tmp_path / "hub" / f"models--{BERT}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_labels_are_those_of_the_untouched_package(use_standins: Path, goldens: dict[str, Any]) -> None:
    """In batches, though the package takes one report at a time; empty and over 512 wordpieces as well."""
    golden = goldens["chexbert"]
    classes = Chexbert(CPU).classes(TEXTS)
    assert classes.tolist() == [[IN_THE_PACKAGE[value] for value in row] for row in golden["classes"]]
    rows = chexbert_rows(truths=TEXTS, predictions=TEXTS[::-1], device=CPU)
    assert rows.truths.astype(int).tolist() == golden["labels"]
    assert rows.predictions.astype(int).tolist() == golden["labels"][::-1]
    assert len({tuple(row) for row in golden["classes"]}) > 8, "stand-ins that say the same of all would show nothing"


def test_labels_have_the_package_s_order(use_standins: Path) -> None:
    assert Chexbert(CPU)._scorer.target_names == list(LABELS)


def test_no_report_is_labelled_by_its_neighbours(use_standins: Path) -> None:
    labeler = Chexbert(CPU)
    for text in TEXTS:
        assert (labeler.classes([text])[0] == labeler.classes([*TEXTS, text])[-1]).all()
    assert labeler.classes([]).shape == (0, 14)


def test_truths_and_predictions_cannot_be_swapped_unnoticed(use_standins: Path) -> None:
    truths, predictions = (list(texts) for texts in zip(*PAIRS, strict=True))
    with pytest.raises(TypeError, match="positional"):
        chexbert_rows(truths, predictions)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="truths is a list of texts"):
        chexbert_rows(truths="No edema.", predictions=["No edema."])
    with pytest.raises(ValueError, match="8 truths and 7 predictions"):
        chexbert_rows(truths=truths, predictions=predictions[1:])


def test_the_package_is_left_as_it_was(use_standins: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = imported("f1chexbert.f1chexbert")
    names, methods, filters = dict(vars(package)), dict(vars(package.bert_labeler)), list(warnings.filters)
    chexbert_rows(truths=["No edema."], predictions=[""], device=CPU)
    assert dict(vars(package)) == names
    assert dict(vars(package.bert_labeler)) == methods
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")


def test_missing_files_are_named_with_the_command(own_standins: Path) -> None:
    (own_standins / "hub" / f"models--{BERT}" / "refs" / "main").unlink()
    with pytest.raises(RequirementError, match=f"tokenizer of {BERT} .*\n.*xrayexp data fetch-metrics"):
        Chexbert()
    (own_standins / "chexbert" / "chexbert.pth").unlink()
    with pytest.raises(RequirementError, match=r"chexbert\.pth is not there\n.*xrayexp data fetch-metrics"):
        Chexbert()


def test_weights_with_a_gap_are_refused(own_standins: Path) -> None:
    """The package would leave random numbers in it."""
    file = own_standins / "chexbert" / "chexbert.pth"
    weights = torch.load(file)["model_state_dict"]
    torch.save({"model_state_dict": weights | {"module.bert.embeddings.position_ids": torch.arange(512)}}, file)
    Chexbert(CPU)  # numbers that older versions of transformers wrote down as well
    del weights["module.linear_heads.3.bias"]
    torch.save({"model_state_dict": weights}, file)
    with pytest.raises(UserError, match=r"other weights than CheXbert's .*linear_heads\.3\.bias.*fetch-metrics"):
        Chexbert(CPU)


def test_a_tokenizer_without_words_is_refused(own_standins: Path) -> None:
    """transformers 5 makes one of five words where it finds none, and says nothing."""
    [snapshot] = (own_standins / "hub" / f"models--{BERT}" / "snapshots").iterdir()
    tokenizer = json.loads((snapshot / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {word: n for word, n in tokenizer["model"]["vocab"].items() if n < 5}
    (snapshot / "tokenizer.json").write_text(json.dumps(tokenizer))
    (snapshot / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(UserError, match=r"143 words and the tokenizer in .* 5: .*fetch-metrics"):
        Chexbert(CPU)

"""RadGraph F1 through radgraph, on stand-in weights: what the untouched package says, and refusals."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.metrics.clinical.record_goldens import MODELS
from tests.metrics.clinical.standins import FOLD, PAIRS, RADGRAPH_ENCODER, TEXTS
from xrayexp.errors import RequirementError, UserError
from xrayexp.metrics.clinical.files import radgraph_files, radgraph_folder
from xrayexp.metrics.clinical.imported import imported
from xrayexp.metrics.clinical.radgraph_package import RadGraph, radgraph_rows

TRUTHS, PREDICTIONS = (list(texts) for texts in zip(*PAIRS, strict=True))
CPU = "cpu"


@pytest.fixture
def own_standins(use_standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of RadGraph's stand-ins, to break."""
    encoder = f"models--{RADGRAPH_ENCODER.replace('/', '--')}"
    shutil.copytree(use_standins / "radgraph", tmp_path / "radgraph")
    shutil.copytree(use_standins / "hub" / encoder, tmp_path / "hub" / encoder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_the_untouched_package(use_standins: Path, goldens: dict[str, Any], model: str) -> None:
    golden = goldens["radgraph"][model]["rewards"]
    rows = radgraph_rows(truths=TRUTHS, predictions=PREDICTIONS, model=model, device=CPU)
    assert {level: scores.tolist() for level, scores in rows.scores.items()} == golden
    assert (rows.model, rows.version) == (model, goldens["versions"]["radgraph"])
    assert any(0 < score < 1 for score in golden["complete"])


def test_entities_are_those_of_the_untouched_package(use_standins: Path, goldens: dict[str, Any]) -> None:
    """Words, labels, places and relations; the longest report is folded for an encoder of 48 wordpieces."""
    golden = goldens["radgraph"]["radgraph"]["annotations"]
    reader = RadGraph("radgraph", CPU)
    assert len(reader._model.reader._token_indexers["bert"]._tokenizer.tokenize(TEXTS[11])) > 512 > FOLD
    for side, texts in (("truths", TRUTHS), ("predictions", PREDICTIONS)):
        both = [text for text, *pair in zip(texts, TRUTHS, PREDICTIONS, strict=True) if all(pair)]
        assert list(reader.graphs(both)) == golden[side]
    assert any(entity["relations"] for graph in golden["truths"] for entity in graph["entities"].values())


def test_blank_reports_score_0_even_beside_each_other(use_standins: Path) -> None:
    """The package scores '' so, and fails on blanks."""
    text = PREDICTIONS[1]
    rows = radgraph_rows(truths=["", " \n", text, text], predictions=["", "", "\t", text], device=CPU)
    assert rows.scores["simple"].tolist() == [0, 0, 0, 1]


def test_truths_and_predictions_cannot_be_swapped_unnoticed(use_standins: Path) -> None:
    with pytest.raises(TypeError, match="positional"):
        radgraph_rows(TRUTHS, PREDICTIONS)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="predictions is a list of texts"):
        radgraph_rows(truths=["No edema."], predictions="No edema.")


def test_the_packages_are_left_as_they_were(use_standins: Path, capfd: pytest.CaptureFixture[str]) -> None:
    modules = [imported(f"radgraph.{name}") for name in ("radgraph", "allennlp.common.cached_transformers")]
    names, filters = [dict(vars(module)) for module in modules], list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        radgraph_rows(truths=["Normal"], predictions=["No edema."], device=CPU)
    assert [dict(vars(module)) for module in modules] == names
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")


def test_missing_files_are_named_with_the_command(own_standins: Path) -> None:
    (own_standins / "hub" / f"models--{RADGRAPH_ENCODER.replace('/', '--')}" / "refs" / "main").unlink()
    with pytest.raises(RequirementError, match=f"tokenizer of {RADGRAPH_ENCODER} .*\n.*xrayexp data fetch-metrics`$"):
        RadGraph()
    folder = radgraph_folder("radgraph")
    (folder / "weights.th").unlink()
    assert "--radgraph radgraph`" in radgraph_files("radgraph").fix
    (folder / "config.json").write_text("{}")
    (folder / "weights.th").touch()
    assert "is no config of RadGraph" in radgraph_files("radgraph").detail
    shutil.rmtree(folder)
    with pytest.raises(RequirementError, match=r"radgraph weights: .*radgraph/config\.json is not there"):
        RadGraph("radgraph")


def test_other_weights_are_refused(own_standins: Path) -> None:
    file = radgraph_folder("radgraph-xl") / "weights.th"
    torch.save({name: w for name, w in torch.load(file).items() if "_ner" not in name}, file)
    with pytest.raises(UserError, match=r"other weights than RadGraph's .*_ner_scorers.*fetch-metrics"):
        RadGraph("radgraph-xl", CPU)


def test_a_tokenizer_without_words_is_refused(own_standins: Path) -> None:
    encoder = own_standins / "hub" / f"models--{RADGRAPH_ENCODER.replace('/', '--')}"
    [snapshot] = (encoder / "snapshots").iterdir()
    tokenizer = json.loads((snapshot / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {word: n for word, n in tokenizer["model"]["vocab"].items() if n < 5}
    (snapshot / "tokenizer.json").write_text(json.dumps(tokenizer))
    (snapshot / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(UserError, match=r"143 words and the tokenizer in .* 5: .*fetch-metrics"):
        RadGraph("radgraph-xl", CPU)

"""`xrayexp export`: a folder that plain transformers loads, that answers as was reported, and that names nobody."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from xrayexp import pipeline
from xrayexp.adapters.attach import load_adapter
from xrayexp.adapters.merge import merge
from xrayexp.cli import main
from xrayexp.config import config_dir
from xrayexp.data.collate import EncodedSample, MicroBatch, pad
from xrayexp.errors import UserError
from xrayexp.export import ExportRequest, ExportSummary, export
from xrayexp.models.loading import load_model, load_processor
from xrayexp.run_data import data_module
from xrayexp.tracking.summary import TrainingSummary

TINY = "pkg://xrayexp/models/tiny"
UNMERGED = "the adapter on the same base, not merged"
TRAINED = "the model as it was trained (quantization nf4)"
QUICK = {"dora"}  # beside lora; the other methods are slow tests
METHODS = sorted(path.stem for path in (config_dir() / "adapter").glob("*.yaml") if path.stem not in ("lora", "none"))


@pytest.fixture
def run(trained_run: TrainingSummary, tmp_path: Path) -> Path:
    """A copy of the shared LoRA run, to write into."""
    return Path(shutil.copytree(trained_run.folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def exported(trained_run: TrainingSummary, tmp_path_factory: pytest.TempPathFactory) -> ExportSummary:
    """The shared LoRA run, exported with all defaults but for the folder."""
    return export(ExportRequest(trained_run.folder, to=tmp_path_factory.mktemp("export") / "model"))


@pytest.fixture(scope="module")
def batch(samples: Sequence[EncodedSample]) -> MicroBatch:
    return pad(samples[:2], pad_token_id=0)


def logits(model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model.eval()(**batch.inputs).logits
    return out[batch.inputs["attention_mask"].bool()]


def merged_here(adapter: Path, dtype: torch.dtype) -> PreTrainedModel:
    base = load_model(TINY, quantization=None, dtype=dtype, device=torch.device("cpu"))
    return merge(load_adapter(base, adapter))


PROGRAM = """
import sys, torch
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, inputs, out = sys.argv[1:]
torch.set_num_threads(1)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").eval()
assert AutoProcessor.from_pretrained(folder).chat_template
assert sorted(model.generation_config.eos_token_id) == [1, 5]
with torch.no_grad():
    torch.save(model(**torch.load(inputs)).logits, out)
assert not any(name.partition(".")[0] in ("xrayexp", "peft", "bitsandbytes") for name in sys.modules)
"""


def plain_python(*arguments: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_transformers_loads_it_and_computes_the_merged_logits(
    exported: ExportSummary, trained_run: TrainingSummary, batch: MicroBatch, tmp_path: Path
) -> None:
    inputs, out = tmp_path / "inputs.pt", tmp_path / "logits.pt"
    torch.save(batch.inputs, inputs)
    plain_python("-c", PROGRAM, str(exported.folder), str(inputs), str(out), cwd=tmp_path)
    here = logits(merged_here(trained_run.folder / "checkpoints" / "best", torch.bfloat16), batch)
    torch.testing.assert_close(torch.load(out)[batch.inputs["attention_mask"].bool()], here, rtol=0, atol=0)
    weights = load_file(exported.folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in weights  # tied, so stored once


def test_the_code_of_the_card_writes_the_report_that_was_compared(
    exported: ExportSummary, trained_run: TrainingSummary, encoder: Any, tmp_path: Path
) -> None:
    """Copied from the card, on an image that is not square, in a Python without this package."""
    from xrayexp.training.answers import Questions

    cfg: Any = OmegaConf.load(trained_run.folder / "config.yaml")
    source = instantiate(cfg.data.source, _convert_="all")
    example = data_module(_settings(trained_run.folder), None, splits=["validation"]).splits["validation"][0]
    image = source.image(example.image_id)[8:-8]
    Image.fromarray(image).save(exported.folder / "chest.png")
    code = (exported.folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    printed = plain_python("-c", code, cwd=exported.folder)
    (exported.folder / "chest.png").unlink()
    model = load_model(str(exported.folder), quantization=None, dtype=torch.bfloat16, device=torch.device("cpu"))
    questions = Questions([encoder.encode(example, image, supervised=False)], encoder, cfg.model.max_new_tokens)
    assert printed.strip() == questions.answers(model)[0].text.strip()


def _settings(folder: Path) -> Any:
    from xrayexp.resume import config_of
    from xrayexp.settings import Settings
    from xrayexp.tracking.run_folder import RunFolder

    return Settings.from_config(config_of(RunFolder.open(folder)))


def test_the_reported_differences(exported: ExportSummary) -> None:
    agreements = exported.merged.agreements
    assert set(agreements) == {UNMERGED, TRAINED}
    for found in agreements.values():
        assert found.reports == 4
        assert found.tokens > 4 * 10
        assert found.max_difference >= found.mean_difference > 0
    # Rounding to bfloat16 moves less than the step from 4-bit to whole weights.
    assert agreements[UNMERGED].mean_difference < 0.5 * agreements[TRAINED].mean_difference
    assert agreements[UNMERGED].divergence < agreements[TRAINED].divergence
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    for name, found in agreements.items():
        assert f"- Beside {name}: {found}." in card


def test_the_folder_is_complete_and_names_nobody(exported: ExportSummary, trained_run: TrainingSummary) -> None:
    names = {path.name for path in exported.folder.iterdir()}
    assert names == {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "processor_config.json",
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    assert [path.name for path in exported.folder.parent.iterdir()] == ["model"]
    folders = [trained_run.folder, exported.folder, Path.home(), config_dir().parent]
    private = [*map(str, folders), platform.node()]
    for path in exported.folder.iterdir():
        content = path.read_bytes()
        assert not [word for word in private if word.encode() in content], path
    assert ModelCard.load(exported.folder / "README.md").data.to_dict()["model-index"]


def trained(compose: Callable[..., DictConfig], small: Sequence[str], *overrides: str) -> Path:
    return pipeline.train(compose(*small, *overrides)).folder


@pytest.mark.parametrize("method", [pytest.param(m, marks=() if m in QUICK else pytest.mark.slow) for m in METHODS])
def test_every_method_is_exported(
    compose: Callable[..., DictConfig], small: Sequence[str], batch: MicroBatch, tmp_path: Path, method: str
) -> None:
    """In float32, where merging is all but exact."""
    chosen = [f"adapter={method}"]
    config = OmegaConf.load(config_dir() / "adapter" / f"{method}.yaml")
    if not OmegaConf.select(config, "quantized_base", default=True):
        chosen.append("quantization=none")
    run = trained(compose, small, *chosen)
    found = export(ExportRequest(run, to=tmp_path / "model", dtype="float32", compare=2))
    assert found.merged.agreements[UNMERGED].max_difference < 1e-2
    assert found.merged.agreements[UNMERGED].same_token == 1
    saved = load_model(str(found.folder), quantization=None, dtype=torch.float32, device=torch.device("cpu"))
    adapter = run / "checkpoints" / "best"
    torch.testing.assert_close(logits(saved, batch), logits(merged_here(adapter, torch.float32), batch))


def test_written_out_quantised_weights_are_closer_to_what_was_trained(run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dtype": "float32", "compare": 3, "checkpoint": "last"}
    onto_whole = export(ExportRequest(run, to=tmp_path / "whole", **options)).merged.agreements[TRAINED]
    summary = export(ExportRequest(run, to=tmp_path / "rounded", dequantize=True, **options))
    onto_rounded = summary.merged.agreements[TRAINED]
    assert onto_rounded.max_difference < 1e-2 < onto_whole.max_difference
    assert onto_rounded.same_report == 3
    assert "rounded by nf4, and written out" in (tmp_path / "rounded" / "README.md").read_text(encoding="utf-8")
    weights = load_file(tmp_path / "rounded" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def changed(run: Path, **values: Any) -> Path:
    """The run with other values in its config, as if it had been made with them."""
    cfg = OmegaConf.load(run / "config.yaml")
    for key, value in values.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    OmegaConf.save(cfg, run / "config.yaml")
    return run


def test_a_base_that_is_stored_quantised(run: Path, load_tiny: Callable[..., Any], tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    load_tiny("nf4").save_pretrained(stored)
    load_processor(TINY).save_pretrained(stored)
    changed(run, model__pretrained=str(stored))
    with pytest.raises(UserError, match=r"(?s)quantised weights.*--base FOLDER.*--dequantize"):
        export(ExportRequest(run, to=tmp_path / "no"))
    written = export(ExportRequest(run, to=tmp_path / "written", dequantize=True, compare=0))
    assert written.merged.base == "stored"
    load_model(str(written.folder), quantization=None, dtype=torch.bfloat16, device=torch.device("cpu"))
    given = export(ExportRequest(run, to=tmp_path / "given", base=TINY, compare=2))
    assert given.merged.base == "tiny"
    assert given.merged.agreements[TRAINED].mean_difference > 0
    assert (tmp_path / "given" / "model.safetensors").exists()


def test_data_that_are_not_here(run: Path, tmp_path: Path) -> None:
    needs = {"_target_": "xrayexp.data.checks.padchest_folder", "root": "/no/such/folder"}
    summary = export(ExportRequest(changed(run, data__requires=needs), to=tmp_path / "model"))
    assert summary.merged.agreements == {}
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "were not compared, for lack of the data." in card
    assert "/no/such" not in card


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "evaluation")
    assert main(["export", str(run), "--compare", "1", "--dtype", "float32", "--checkpoint", "last"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "MB, float32" in shown
    assert "same report for" in shown
    assert "of 1 images" in shown
    assert str(run / "export" / "last") in shown.replace(" ", "")
    card = (run / "export" / "last" / "README.md").read_text(encoding="utf-8")
    assert "was not evaluated on the test split" in card
    assert main(["export", str(run), "--checkpoint", "last"]) == 2
    assert "exists already" in capsys.readouterr().err


def damaged(run: Path) -> Path:
    """The run with an adapter that is not finite."""
    file = run / "checkpoints" / "best" / "adapter_model.safetensors"
    save_file({name: tensor.fill_(torch.nan) for name, tensor in load_file(file).items()}, file)
    return run


def test_a_failure_leaves_nothing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        export(ExportRequest(damaged(run), to=tmp_path / "out" / "model", compare=0))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_without_room(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(UserError, match=r"takes 100\.5 MB, and the disk of .* has 1\.0 MB free.*--to"):
        export(ExportRequest(run, to=tmp_path / "a" / "b"))
    assert not (tmp_path / "a").exists()


WRONG: list[tuple[list[str], str]] = [
    (["/no/such/run"], "/no/such/run is not the folder of a run"),
    (["{run}", "--to", "{run}"], "exists already"),
    (["{run}", "--to", "{run}/config.yaml"], "exists already"),
    (["{run}", "--base", "/no/such/base"], "/no/such/base: no such folder"),
    (["{run}", "--base", TINY, "--dequantize"], "leave --base out"),
    (["{run}", "--push", "model"], "OWNER/NAME"),
    (["{run}", "--push", "me/model"], "HF_HUB_OFFLINE"),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    before = sorted(run.rglob("*"))
    assert main(["export", *(argument.format(run=run) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


def test_a_checkpoint_that_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "checkpoints" / "best")
    assert main(["export", str(run)]) == 2
    assert "no adapter in" in capsys.readouterr().err


def test_whole_weights_cannot_be_written_out(run: Path) -> None:
    changed(run, quantization={"name": "none", "config": None})
    with pytest.raises(UserError, match="leave it out"):
        export(ExportRequest(run, dequantize=True))


def test_the_model_as_it_was_trained_must_be_here_for_the_comparison(run: Path, tmp_path: Path) -> None:
    changed(run, quantization={"name": "none", "config": None}, model__pretrained="/no/such/model")
    with pytest.raises(UserError, match="/no/such/model: no such folder"):
        export(ExportRequest(run, to=tmp_path / "model", base=TINY))
    assert not (tmp_path / "model").exists()


def test_a_negative_count_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "run", "--compare", "-1"])
    assert "at least 0" in capsys.readouterr().err

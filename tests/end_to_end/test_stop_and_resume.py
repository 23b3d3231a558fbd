"""A run that was stopped goes on as if nothing had happened; a changed one is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from filelock import FileLock
from omegaconf import DictConfig
from safetensors.torch import load_file

from xrayexp import pipeline
from xrayexp.data.phantom import PhantomSource
from xrayexp.errors import ConfigError, DataError, Stopped, UserError
from xrayexp.tracking.csv_logger import CsvLogger
from xrayexp.tracking.record import current_state, read_record, recorded
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.tracking.summary import TrainingSummary
from xrayexp.training import module
from xrayexp.training.callbacks import PredictionWriter
from xrayexp.training.loss import supervised_loss_sum

Train = Callable[..., TrainingSummary]
HERE = "tests.end_to_end.test_stop_and_resume"
RUN = (
    "trainer.max_steps=10",  # 64 images: an epoch has 8 steps
    "trainer.validate_every=4",
    "trainer.checkpoint_every=3",
    "adapter.dropout=0.1",
    "model.max_new_tokens=4",
    "callbacks.early_stopping=null",
)


class SignalAt(L.Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int, name: str) -> None:
        self.step, self.name = step, name

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.Signals[self.name])


class SignalElsewhere(L.Callback):
    """Sends this process a signal where nothing is trained: before the first step, or within the test."""

    def __init__(self, stage: str, name: str) -> None:
        self.stage, self.name = stage, name

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == self.stage == "fit":
            os.kill(os.getpid(), signal.Signals[self.name])

    def on_test_batch_start(self, *args: Any) -> None:
        os.kill(os.getpid(), signal.Signals[self.name])


def stop_in(step: int, name: str = "SIGTERM") -> Sequence[str]:
    """Overrides that stop a run within the step after `step`."""
    return [f"+callbacks.stop={{_target_: {HERE}.SignalAt, step: {step}, name: {name}}}"]


@pytest.fixture
def train(compose: Callable[..., DictConfig], small: Sequence[str], tmp_path: Path) -> Train:
    """`train(folder, *overrides)`: a run of 10 steps in `tmp_path / folder`."""

    def run(folder: str, *overrides: str) -> TrainingSummary:
        return pipeline.train(compose(*small, *RUN, *overrides, f"paths.output_dir={tmp_path / folder}"))

    return run


def resume(folder: str, tmp_path: Path) -> str:
    return f"resume={tmp_path / folder}"


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "adapter_model.safetensors")


def log_of(run: Path) -> list[dict[str, str]]:
    """The log but for what the machine makes of it."""
    measured = ("memory/", "throughput/")
    with (run / "logs" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if value and not name.startswith(measured)} for row in rows]


CURRICULA = (
    (),
    ("curriculum=paced", "augmentation=cxr", "data.num_workers=2", "data.cache=disk"),
    ("curriculum=hard_first", "curriculum.group_by_length=true", "augmentation=cxr"),
)


@pytest.mark.parametrize("choices", CURRICULA, ids=["plain", "paced", "hard_first"])
def test_a_stopped_run_ends_where_an_undisturbed_one_ends(train: Train, tmp_path: Path, choices: Sequence[str]) -> None:
    """Stopped in the first epoch, between checkpoints, and again at a step that is followed by a validation."""
    choices = [*choices, f"data.cache_dir={tmp_path / 'cache'}"]
    whole = train("whole", *choices)
    with pytest.raises(Stopped) as stop:
        train("broken", *choices, *stop_in(4))
    assert stop.value.code == 143
    with pytest.raises(Stopped) as stop:
        train("broken", *choices, resume("broken", tmp_path), *stop_in(7, "SIGINT"))
    assert stop.value.code == 130
    broken = train("broken", *choices, resume("broken", tmp_path))
    assert broken.steps == whole.steps == 10
    assert (broken.best_score, broken.best_step) == (whole.best_score, whole.best_step)
    for name in ("best", "last"):
        one, other = weights(whole.folder, name), weights(broken.folder, name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert log_of(broken.folder) == log_of(whole.folder)


def test_a_process_that_dies_between_a_checkpoint_and_its_row_loses_no_row(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole")
    write = CsvLogger.log_metrics

    def dies(logger: CsvLogger, metrics: Any, step: int) -> None:
        if (tmp_path / "broken" / "checkpoints" / "step-00000003.ckpt").exists():
            raise InterruptedError
        write(logger, metrics, step)

    monkeypatch.setattr(CsvLogger, "log_metrics", dies)
    with pytest.raises(InterruptedError):
        train("broken")
    monkeypatch.undo()
    assert [row["step"] for row in log_of(tmp_path / "broken")] == ["1", "2"]
    assert log_of(train("broken", resume("broken", tmp_path)).folder) == log_of(whole.folder)


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("stage, steps", [("fit", 0), ("test", 2)])
def test_a_signal_where_nothing_is_trained_stops_at_once(
    train: Train, tmp_path: Path, stage: str, steps: int, name: str, code: int
) -> None:
    """Lightning would exit with 0 after SIGTERM, and with 1 after Ctrl-C."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    stop = f"+callbacks.stop={{_target_: {HERE}.SignalElsewhere, stage: {stage}, name: {name}}}"
    with pytest.raises(Stopped) as stopped:
        train("run", "trainer.max_steps=2", "test=true", stop)
    assert stopped.value.code == code
    run = RunFolder(tmp_path / "run")
    assert (current_state(run), read_record(run)["reason"]) == ("stopped", name)
    assert len(list(run.checkpoints.glob("*.ckpt"))) == (steps > 0)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_stops_an_evaluation(
    trained_run: TrainingSummary,
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
) -> None:
    def kill(*args: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.Signals[name])

    shutil.copytree(trained_run.folder, tmp_path / "run")
    monkeypatch.setattr(PredictionWriter, "on_test_batch_end", kill)
    with pytest.raises(Stopped) as stopped:
        pipeline.evaluate(compose(f"run={tmp_path / 'run'}", config="evaluate"))
    assert stopped.value.code == code


def test_eight_bit_optimiser_state_comes_back_exactly(train: Train, tmp_path: Path) -> None:
    optimizer = ("optimizer=paged_adamw_8bit", "adapter.r=64")  # large enough for states of 8 bits
    whole = train("whole", *optimizer)
    with pytest.raises(Stopped):
        train("broken", *optimizer, *stop_in(5))
    broken = train("broken", resume("broken", tmp_path), *optimizer)
    assert all(torch.equal(tensor, weights(broken.folder)[name]) for name, tensor in weights(whole.folder).items())


def test_the_base_is_in_no_checkpoint(train: Train) -> None:
    run = train("run")
    saved = sorted((run.folder / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in saved] == ["step-00000009.ckpt", "step-00000010.ckpt"]
    state = torch.load(saved[-1], weights_only=True)
    assert sum(tensor.numel() for tensor in state["state_dict"].values()) == run.trainable_parameters


@pytest.mark.parametrize(
    "change, named",
    [
        ("adapter.r=4", r"adapter\.r was 16 and would be 4"),
        ("init_from=elsewhere", r"init_from was None and would be 'elsewhere'"),
        ("curriculum=paced", r"curriculum\.name was 'none' and would be 'paced'"),
        ("augmentation=cxr", r"augmentation\.name was 'none'"),
        ("adapter=dora", r"adapter\.name was 'lora' and would be 'dora'"),
        ("seed=1", "seed was 0 and would be 1"),
        ("data.source.seed=1", r"data\.source\.seed was 0"),
        ("model.max_new_tokens=5", r"model\.max_new_tokens was 4"),
        ("optimizer.lr=0.1", r"optimizer\.lr was"),
        ("trainer.effective_batch_size=4", r"trainer\.effective_batch_size was 8"),
    ],
)
def test_a_changed_run_is_refused_by_name(
    train: Train, trained_run: TrainingSummary, tmp_path: Path, change: str, named: str
) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(Stopped):
        train("run", "trainer.max_steps=2", *stop_in(1))
    with pytest.raises(ConfigError, match=named):
        train("run", resume("run", tmp_path), change)


def test_a_finished_run_can_be_made_longer_and_an_early_stopped_one_has_ended(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train("run", "trainer.max_steps=4").steps == 4
    assert train("run", resume("run", tmp_path), "trainer.max_steps=6").steps == 6
    stops = ("callbacks.early_stopping={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/micro_f1, "
             "mode: max, patience: 1, check_on_train_epoch_end: false}", "trainer.validate_every=1")  # fmt: skip
    stopped = train("stopped", *stops)
    assert stopped.steps < 10
    caplog.clear()
    assert train("stopped", resume("stopped", tmp_path), *stops).steps == stopped.steps
    assert "early stopping or the accuracy gate had ended this run: nothing is left to train" in caplog.messages


def test_an_adapter_that_a_run_started_from_may_be_gone_when_it_resumes(
    train: Train, trained_run: TrainingSummary, tmp_path: Path
) -> None:
    shutil.copytree(trained_run.folder / "checkpoints" / "best", tmp_path / "start")
    with pytest.raises(Stopped):
        train("run", f"init_from={tmp_path / 'start'}", *stop_in(2))
    shutil.rmtree(tmp_path / "start")
    resumed = train("run", resume("run", tmp_path), f"init_from={tmp_path / 'start'}", "trainer.max_steps=4")
    assert resumed.steps == 4


def test_a_one_cycle_schedule_cannot_be_stretched(train: Train, tmp_path: Path) -> None:
    cycle = ("scheduler=one_cycle", "trainer.max_steps=4")
    train("run", *cycle)
    with pytest.raises(UserError, match=r"made for 4 steps, and .* now make 6"):
        train("run", resume("run", tmp_path), "scheduler=one_cycle", "trainer.max_steps=6")


def test_a_new_run_can_start_from_an_adapter(train: Train, trained_run: TrainingSummary) -> None:
    start = trained_run.folder / "checkpoints" / "best"
    frozen = ("trainer.max_steps=1", "optimizer.lr=1e-30", "adapter.dropout=0.0")
    run = train("run", f"init_from={start}", *frozen)
    given, taken = weights(trained_run.folder, "best"), weights(run.folder)
    assert all(torch.equal(given[name], taken[name]) for name in given)
    with pytest.raises(DataError, match="no adapter in"):
        train("other", f"init_from={run.folder}")
    with pytest.raises(DataError, match="tensors differ"):
        train("other", f"init_from={start}", "adapter.r=4")


def test_out_of_memory_halves_the_micro_batch_and_repeats_the_step(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two samples at a time from step 3 on; the result is that of a run with the right size."""
    right = train("right", "trainer.micro_batch_size=2", "adapter.dropout=0.0")
    calls: list[int] = []

    def small_device(model: Any, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        calls.append(len(labels))
        if len(calls) > 4 and len(labels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return supervised_loss_sum(model, inputs, labels)

    monkeypatch.setattr(module, "supervised_loss_sum", small_device)
    with pytest.raises(Stopped):
        train("run", "trainer.micro_batch_size=8", "adapter.dropout=0.0", *stop_in(5))
    run = train("run", resume("run", tmp_path), "trainer.micro_batch_size=8", "adapter.dropout=0.0")
    assert run.halved == ((4, 4), (4, 2))
    assert calls[:8] == [8, 8, 8, 8, 8, 4, 2, 2]
    assert json.loads((run.folder / "summary.json").read_text())["halved"] == [[4, 4], [4, 2]]
    for name, tensor in weights(right.folder).items():
        torch.testing.assert_close(tensor, weights(run.folder)[name], rtol=0, atol=2e-4)


def test_a_resumed_run_takes_the_micro_batch_that_it_is_told_to(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train("run", "trainer.micro_batch_size=8", *stop_in(1))
    sizes: list[int] = []

    def measured(model: Any, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(labels))
        return supervised_loss_sum(model, inputs, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "supervised_loss_sum", measured)
        train("run", resume("run", tmp_path), "trainer.micro_batch_size=4", "trainer.max_steps=3")
    assert sizes == [4, 4]


def test_an_optimiser_without_room_ends_the_run_with_advice(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state is made at the first step; by then parameters may have moved, so that the step cannot be repeated."""

    def no_room(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", no_room)
    with pytest.raises(UserError, match=r"out of memory in the optimiser at step 0 .*optimizer=paged_adamw_8bit"):
        train("run")


def test_a_sample_that_alone_is_too_large_ends_the_run_with_advice(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*args: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "supervised_loss_sum", no_room)
    with pytest.raises(UserError, match=r"single sample .*lower model\.max_length"):
        train("run")
    monkeypatch.undo()
    monkeypatch.setattr(module, "generate", no_room)
    with pytest.raises(UserError, match=r"6 reports .*lower trainer\.eval_batch_size"):
        train("other")


def test_the_run_folder_says_what_the_run_is_and_where_it_stands(train: Train, tmp_path: Path) -> None:
    run = RunFolder(train("run", "trainer.max_steps=1").folder)
    assert current_state(run) == "finished"
    [start] = read_record(run)["starts"]
    assert start["versions"]["torch"] == torch.__version__
    readme = run.readme_file.read_text()
    assert all(words in readme for words in ("evaluate.py run=", "train.py resume=", "PeftModel.from_pretrained"))
    with pytest.raises(Stopped):
        train("stopped", *stop_in(1))
    stopped = RunFolder(tmp_path / "stopped")
    assert (current_state(stopped), read_record(stopped)["reason"]) == ("stopped", "SIGTERM")
    train("stopped", resume("stopped", tmp_path), "trainer.max_steps=3")
    assert current_state(stopped) == "finished"
    assert [start.get("from") for start in read_record(stopped)["starts"]] == [None, "step-00000002.ckpt"]
    with pytest.raises(UserError, match="optimizer"):
        train("failed", "optimizer.lr=1e30", "trainer.gradient_clip=null")
    failed = RunFolder(tmp_path / "failed")
    assert current_state(failed) == "failed"
    assert "not finite" in read_record(failed)["reason"]


def test_two_processes_do_not_write_to_one_run(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train("run", *stop_in(1))
    run = RunFolder(tmp_path / "run")
    with FileLock(run.lock_file), pytest.raises(UserError, match="another process is writing"):
        train("run", resume("run", tmp_path))
    record = read_record(run)
    run.record_file.write_text(json.dumps(record | {"state": "running"}))
    assert current_state(run) == "killed"


@pytest.fixture
def nobody() -> Iterator[None]:
    """This process without root's permission to write anywhere."""
    me = os.geteuid()
    os.seteuid(65534 if me == 0 else me)
    yield
    os.seteuid(me)


def test_a_folder_that_may_not_be_written_to_is_one_message(tmp_path: Path, nobody: None) -> None:
    with (
        pytest.raises(UserError, match=r"cannot write to the run folder .*Permission denied.*choose another"),
        recorded(RunFolder(tmp_path / "run"), {}, None),
    ):
        pass


def test_a_paced_run_cannot_be_stretched(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train("run", "curriculum=paced", *stop_in(4))
    with pytest.raises(UserError, match="a paced curriculum cannot be stretched: it was made for 80 draws"):
        train("run", "curriculum=paced", resume("run", tmp_path), "trainer.max_steps=20")


def test_other_training_images_are_refused(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has gone since changes which sample is which."""
    with pytest.raises(Stopped):
        train("run", "data.max_broken_fraction=0.5", *stop_in(4))
    gone = PhantomSource.absent

    def absent(source: PhantomSource, image_ids: Sequence[str]) -> dict[str, str]:
        return gone(source, image_ids) | {image_ids[0]: "no such file"}

    monkeypatch.setattr(PhantomSource, "absent", absent)
    with pytest.raises(UserError, match="the training images are not those that the run was started with"):
        train("run", "data.max_broken_fraction=0.5", resume("run", tmp_path))

"""W&B writes for real, offline, and its own reader reads it back."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import pytest
import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from wandb.errors import CommError

from xrayexp.errors import Stopped, UserError
from xrayexp.settings import Settings
from xrayexp.tracking.examples import ExampleLogger, ExampleRow
from xrayexp.tracking.loggers import log_adapter, log_facts, log_summary, tracked
from xrayexp.tracking.wandb_logger import WandbLogger

if TYPE_CHECKING:
    from tests.tracking.conftest import OfflineRun

Fit = Callable[..., L.Trainer]
OfflineRuns = Callable[[Path], "list[OfflineRun]"]

pytestmark = pytest.mark.usefixtures("logged_out")

CONFIG = {"seed": 3, "adapter": {"name": "dora", "r": 16, "target": "language"}, "optimizer": {"lr": 1e-3}}
JPEG = b"\xff\xd8\xff"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "12-00-00_tiny_lora"


def test_the_run_reads_back(folder: Path, fit: Fit, offline_runs: OfflineRuns) -> None:
    logger = WandbLogger(folder, project="chest", group="study", tags=["a", "b"])
    with tracked([logger], CONFIG):
        fit([logger])
        log_facts([logger], {"trainable_parameters": 12, "total_parameters": 345})
        log_summary([logger], {"peak_memory_gib": 1.5, "gate": "passed"}, step=6)
    (run,) = offline_runs(folder)
    assert (run.run["project"], run.run["run_group"], run.run["tags"]) == ("chest", "study", ["a", "b"])
    assert run.run["display_name"] == folder.name
    assert run.config["adapter"] == CONFIG["adapter"]
    flat = {"seed": 3, "adapter_name": "dora", "adapter_r": 16, "target": "language", "lr": 1e-3}
    counts = {"trainable_parameters": 12, "total_parameters": 345}
    assert {**flat, **counts}.items() <= run.config.items()
    assert {"peak_memory_gib": 1.5, "gate": "passed"}.items() <= run.summary.items()
    assert [row["trainer/global_step"] for row in run.history if "train/loss" in row] == [0, 1, 2, 3, 4, 5]
    assert [row["trainer/global_step"] for row in run.history if "val/loss" in row] == [2, 5]
    assert run.exit_code == 0
    assert wandb.run is None


def test_two_runs_in_one_process_do_not_mix(tmp_path: Path, fit: Fit, offline_runs: OfflineRuns) -> None:
    """Also when the first one fails."""
    for seed, fail_at in enumerate([4, None]):
        logger = WandbLogger(tmp_path / f"{seed}", project="chest")
        try:
            with tracked([logger], {"seed": seed}):
                fit([logger], fail_at=fail_at)
        except ValueError:
            assert seed == 0
    (failed,), (finished,) = (offline_runs(tmp_path / f"{seed}") for seed in range(2))
    assert failed.run["run_id"] != finished.run["run_id"]
    assert (failed.config["seed"], finished.config["seed"]) == (0, 1)
    assert (failed.exit_code, finished.exit_code) == (1, 0)
    assert max(row["trainer/global_step"] for row in failed.history) == 3
    assert [row["trainer/global_step"] for row in finished.history if "train/loss" in row] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "error, exit_code",
    [(ValueError("bug"), 1), (Stopped(signal.SIGTERM), 143), (SystemExit(), 1), (KeyboardInterrupt(), 130)],
)
def test_the_run_is_ended_whatever_happens(
    folder: Path, offline_runs: OfflineRuns, error: BaseException, exit_code: int
) -> None:
    logger = WandbLogger(folder, project="chest")

    def fail() -> None:
        with tracked([logger], CONFIG):
            raise error

    with pytest.raises(type(error)):
        fail()
    assert wandb.run is None
    (run,) = offline_runs(folder)
    assert run.exit_code == exit_code
    assert run.config["seed"] == 3


def test_a_resumed_run_keeps_its_id(folder: Path, offline_runs: OfflineRuns) -> None:
    for step in range(2):
        logger = WandbLogger(folder, project="chest")
        with tracked([logger], CONFIG):
            logger.log_metrics({"loss": 1.0}, step)
    first, second = offline_runs(folder)
    assert first.run["run_id"] == second.run["run_id"] == (folder / "wandb" / "run_id.txt").read_text().strip()
    assert [run.history[0]["trainer/global_step"] for run in (first, second)] == [0, 1]


def test_everything_lies_in_the_run_folder(
    folder: Path, logged_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    before = dict(os.environ)
    with tracked([WandbLogger(folder, project="chest")], CONFIG):
        pass
    assert dict(os.environ) == before
    assert list(logged_out.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "home"}


def test_the_adapter_is_logged_without_the_places_of_its_base(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/srv/ward7/tiny", "r": 8}')
    (adapter / "README.md").write_text("base_model: /srv/ward7/tiny")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    logger = WandbLogger(folder, project="chest", log_adapter=True)
    with tracked([logger], CONFIG):
        log_adapter([logger], adapter)
    staged = [path.read_bytes() for path in (folder / "wandb" / "data").rglob("*") if path.is_file()]
    assert b"weights" in staged
    assert {"base_model_name_or_path": "tiny", "r": 8} in [json.loads(text) for text in staged if text[:1] == b"{"]
    assert not any(b"ward7" in content for content in staged)


def test_the_adapter_is_logged_only_when_asked(folder: Path, tmp_path: Path) -> None:
    logger = WandbLogger(folder, project="chest")
    with tracked([logger], CONFIG):
        log_adapter([logger], tmp_path / "is not even read")
    assert not (folder / "wandb" / "data").exists()


def test_nothing_private_is_written(
    folder: Path,
    fit: Fit,
    offline_runs: OfflineRuns,
    names_host: Callable[[bytes], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, user, mail = "0123456789abcdef" * 3, "ana-lopez", "ana@hospital.example"
    monkeypatch.setenv("WANDB_API_KEY", key[:40])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_USERNAME", user)
    monkeypatch.setenv("WANDB_USER_EMAIL", mail)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, user)
    assert getpass.getuser() == user
    monkeypatch.setattr(sys, "argv", ["/srv/ward7/train.py", "--token=tok123", f"data.root=/home/{user}/padchest"])
    logger = WandbLogger(folder, project="chest")
    config = {
        **CONFIG,
        "data": {"root": f"/home/{user}/padchest"},
        "logger": {"save_dir": str(folder), "key": "tok123"},
    }
    with tracked([logger], config):
        fit([logger])
        logger.log_examples(5, [example()])
    (run,) = offline_runs(folder)
    files = run.files()
    assert {path.suffix for path in files} >= {".wandb", ".json"}
    assert any(path.read_bytes().startswith(JPEG) for path in files)
    private = [user, mail, str(folder), str(folder.parent), str(Path.cwd()), sys.prefix, "ward7"]
    # Where a table waits for its upload is known to the record that uploads it, and to nothing that is uploaded.
    staging = str(folder / "wandb" / "data" / "artifacts" / "staging").encode()
    for path in files:
        content = path.read_bytes().replace(staging if path.suffix == ".wandb" else b"", b"") + path.name.encode()
        assert [word for word in [*private, key[:40], "tok123"] if word.encode() in content] == [], path
        assert path.suffix == ".jpg" or not names_host(content), path


def example(size: tuple[int, int] = (8, 8), image_id: str = "1.png") -> ExampleRow:
    image = np.full(size, 100, dtype=np.uint8)
    return ExampleRow(image_id, image, "nodule: left", "normal", missed=("nodule",), invented=("normal", "mass"))


def test_examples_are_a_table_with_small_images(folder: Path, offline_runs: OfflineRuns) -> None:
    logger = WandbLogger(folder, project="chest")
    assert isinstance(logger, ExampleLogger)
    with tracked([logger], CONFIG):
        logger.log_examples(4, [example(), example((1024, 512), "2.png")])
    (run,) = offline_runs(folder)
    (row,) = run.history
    assert row["trainer/global_step"] == 4
    contents = [path.read_bytes() for path in run.files()]
    table = next(json.loads(text) for text in contents if text.startswith(b'{"_type": "table"'))
    assert table["columns"] == ["image_id", "image", "truth", "prediction", "missed", "invented"]
    texts = [[cell for cell in cells if isinstance(cell, str)] for cells in table["data"]]
    assert texts == [[name, "nodule: left", "normal", "nodule", "normal, mass"] for name in ("1.png", "2.png")]
    images = [cells[1] for cells in table["data"]]
    assert [(image["width"], image["height"]) for image in images] == [(8, 8), (128, 256)]
    assert len([content for content in contents if content.startswith(JPEG)]) == 2


class Reached(Exception):
    """wandb would now talk to its server."""


def started_mode(logger: WandbLogger, monkeypatch: pytest.MonkeyPatch) -> str:
    """The mode in which wandb is asked to start; it does not, there is no server."""

    def init(**options: Any) -> None:
        raise Reached(options["mode"])

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(Reached) as reached:
        logger.start()
    return str(reached.value)


@pytest.mark.parametrize(
    "mode, environment, key, expected",
    [
        (None, None, False, "offline"),
        (None, None, True, "online"),
        (None, "offline", True, "offline"),
        (None, "disabled", True, "disabled"),
        ("offline", "online", True, "offline"),
        ("online", "offline", True, "online"),
    ],
)
def test_the_mode(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str | None,
    environment: str | None,
    key: bool,
    expected: str,
) -> None:
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert started_mode(WandbLogger(folder, project="chest", mode=mode), monkeypatch) == expected


@pytest.mark.parametrize("mode, environment", [("online", None), ("online", "offline"), (None, "online")])
def test_online_without_a_login_is_refused_and_never_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str | None, environment: str | None
) -> None:
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    logger = WandbLogger(folder, project="chest", mode=mode)
    with pytest.raises(UserError, match=r"needs a login .*logger\.wandb\.mode=offline"), tracked([logger], CONFIG):
        pytest.fail("the run was started")


def test_a_key_for_another_server_is_no_login(folder: Path, logged_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb's own settings may name the server; a run for it must not go elsewhere."""
    (logged_out / ".netrc").write_text("machine api.wandb.ai login user password " + "0" * 40)
    (logged_out / ".netrc").chmod(0o600)
    assert started_mode(WandbLogger(folder, project="chest"), monkeypatch) == "online"
    settings = logged_out / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = https://wandb.hospital.example\n")
    assert started_mode(WandbLogger(folder, project="chest"), monkeypatch) == "offline"


def test_a_server_that_does_not_answer_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        assert options["settings"].init_timeout <= 15
        raise CommError("Run initialization has timed out after 10.0 sec.\nPlease try increasing the timeout.")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    before = dict(os.environ)
    logger = WandbLogger(folder, project="chest", mode="online")
    with pytest.raises(UserError) as caught, tracked([logger], CONFIG):
        pytest.fail("the run was started")
    assert "\n" not in str(caught.value)
    assert "timed out" in str(caught.value)
    assert "logger.wandb.mode=offline" in str(caught.value)
    assert dict(os.environ) == before


def test_a_run_of_somebody_else_is_not_joined(folder: Path, tmp_path: Path) -> None:
    with wandb.init(mode="offline", dir=tmp_path) as other:
        with pytest.raises(UserError, match=r"wandb\.finish"):
            WandbLogger(folder, project="chest").start()
        assert wandb.run is other


def test_disabled_writes_nothing(folder: Path, fit: Fit) -> None:
    logger = WandbLogger(folder, project="chest", mode="disabled")
    with tracked([logger], CONFIG):
        fit([logger])
        logger.log_examples(5, [example()])
        log_summary([logger], {"best_score": 0.5}, step=6)
    assert not list(folder.rglob("*.wandb"))


def from_config(cfg: DictConfig) -> WandbLogger:
    (logger,) = Settings.from_config(cfg).loggers()
    assert isinstance(logger, WandbLogger)
    return logger


def test_the_group_of_a_multirun_is_its_folder(
    compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, offline_runs: OfflineRuns
) -> None:
    hydra = {"hydra": {"mode": RunMode.MULTIRUN, "sweep": {"dir": "outputs/2026-01-01/12-00-00_multirun"}}}
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create(hydra))
    for overrides, group in [([], "12-00-00_multirun"), (["logger.wandb.group=mine"], "mine")]:
        cfg = compose("logger=wandb", *overrides)
        logger = from_config(cfg)
        with tracked([logger], {"seed": 0}):
            pass
        (run,) = offline_runs(Path(cfg.paths.output_dir))
        assert run.run["run_group"] == group


def test_no_group_elsewhere(folder: Path, offline_runs: OfflineRuns) -> None:
    logger = WandbLogger(folder, project="chest")
    with tracked([logger], CONFIG):
        pass
    assert "run_group" not in offline_runs(folder)[0].run


def test_names_from_the_config(compose: Callable[..., DictConfig], offline_runs: OfflineRuns) -> None:
    cfg = compose("logger=wandb", "logger.wandb.tags=[a,b]", "logger.wandb.name=mine", "logger.wandb.entity=team")
    logger = instantiate(cfg.logger.wandb)
    with tracked([logger], {"seed": 0}):
        pass
    (run,) = offline_runs(Path(cfg.paths.output_dir))
    names: Sequence[Any] = [run.run[key] for key in ("project", "entity", "display_name", "tags")]
    assert names == ["xrayexp", "team", "mine", ["a", "b"]]

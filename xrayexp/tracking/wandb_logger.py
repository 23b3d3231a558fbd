"""Weights & Biases, on its server or offline in the run folder, without a prompt and without private facts."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger as LightningsWandbLogger
from lightning.pytorch.utilities import rank_zero_only

from xrayexp.errors import UserError
from xrayexp.tracking.examples import ExampleRow
from xrayexp.tracking.public import public_config, public_text
from xrayexp.tracking.trial_context import SWEEP, current_trial
from xrayexp.tracking.wandb_session import NO_CRASH_REPORTS, missing_login, set_environment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from wandb import Settings

INIT_TIMEOUT = 10.0  # seconds; wandb's own 90 keep a run without network waiting for 102
LARGEST_IMAGE = 256  # pixels
ADAPTER_CONFIG, MODEL_CARD = "adapter_config.json", "README.md"
EXAMPLE_COLUMNS = ("image_id", "image", "truth", "prediction", "missed", "invented")


class WandbLogger(LightningsWandbLogger):
    """Lightning's logger, with a run of its own for every run folder.

    Everything lies in `<run folder>/wandb`. The run's id is drawn once and kept there in run_id.txt, so a resumed
    run continues the same one. What wandb would tell of the machine (host, user, program, arguments, git, packages,
    console) is switched off.

    Args:
        save_dir: the run folder.
        project: on the server; made when it is new.
        entity: user or team on the server; None means the login's default.
        group: None means the sweep's name in a trial, the folder's name in a Hydra multirun, and no group elsewhere.
        job_type: None means "trial" in a trial of a sweep, and "train" elsewhere.
        tags: to find runs by; a trial has "sweep" as well.
        name: None means the sweep's name in a trial, and the run folder's elsewhere. Trials are NAME/trial-NUMBER.
        mode: "online", "offline" or "disabled"; None means what WANDB_MODE says, and else online when there is a
            login and offline when there is none.
        log_adapter: whether the best adapter is logged as an artifact.
    """

    def __init__(
        self,
        save_dir: str | Path,
        project: str,
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        mode: str | None = None,
        log_adapter: bool = False,
    ) -> None:
        trial = current_trial()
        super().__init__(
            save_dir=str(save_dir),
            project=project,
            entity=entity,
            group=group or (trial.sweep if trial else _multirun_name()),
            job_type=job_type or ("trial" if trial else "train"),
            tags=[*tags, *([SWEEP] if trial else [])],
            name=f"{name or trial.sweep}/trial-{trial.number}" if trial else name or public_text(Path(save_dir).name),
        )
        del self._wandb_init["anonymous"]  # wandb warns of it
        self._folder = Path(save_dir) / "wandb"
        self._mode = mode
        self._log_adapter = log_adapter
        self._until_finished = ExitStack()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """wandb's run, started by the first use.

        Raises:
            UserError: when the server is asked for and there is no login or no answer, or when somebody else's run
                is active in this process.
        """
        return self._experiment if self._experiment is not None else self._start()

    @rank_zero_only
    def start(self) -> None:
        """Starts the run, so that what is wrong shows before anything slow. See `experiment` for the errors."""
        _ = self.experiment

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """Ends the run: 0 marks it as finished, anything else as failed. Another may start in this process then."""
        with self._until_finished:
            if self._experiment is not None:
                self._experiment.finish(exit_code=exit_code)

    @rank_zero_only
    def log_summary(self, values: Mapping[str, float | str], step: int) -> None:
        """Puts facts of the whole run into wandb's summary, which has no steps.

        The monitored metric stands there with its best value: wandb would keep the last one, and the adapter that is
        kept is the best.
        """
        found = dict(values)
        if {"monitor", "best_score"} <= values.keys():
            found[str(values["monitor"])] = values["best_score"]
        self.experiment.summary.update(found)

    @rank_zero_only
    def log_examples(self, step: int, examples: Sequence[ExampleRow]) -> None:
        """Logs a table with an image a row, which shows the model at this optimiser step."""
        import wandb

        table = wandb.Table(columns=list(EXAMPLE_COLUMNS))
        for row in examples:
            image = wandb.Image(_small(row.image), file_type="jpg")
            found = ", ".join(row.missed), ", ".join(row.invented)
            table.add_data(row.image_id, image, row.truth, row.prediction, *found)
        self.log_metrics({"examples": table}, step)  # type: ignore[dict-item]

    @rank_zero_only
    def log_adapter(self, folder: Path) -> None:
        """Logs an adapter's folder as an artifact, if the config asks for it.

        PEFT writes where the base model lay into two of the files: the model card is left out, and the config keeps
        the last component.
        """
        import wandb

        if not self._log_adapter:
            return
        artifact = wandb.Artifact(f"adapter-{self.experiment.id}", type="adapter")
        for file in sorted(folder.iterdir()):
            if file.name == ADAPTER_CONFIG:
                config = json.loads(file.read_text(encoding="utf-8"))
                with artifact.new_file(file.name, encoding="utf-8") as copy:
                    json.dump(public_config(config), copy, indent=2)
            elif file.name != MODEL_CARD:
                artifact.add_file(str(file))
        self.experiment.log_artifact(artifact)

    def _start(self) -> Any:
        import wandb
        from wandb.errors import CommError, UsageError

        if wandb.run is not None:
            raise UserError("a W&B run is active in this process: end it with wandb.finish(), then start this one")
        with ExitStack() as undo:
            set_environment(NO_CRASH_REPORTS | _folders(self._folder), undo)
            undo.callback(wandb.teardown)  # its service has this run's folders in its environment
            mode = _mode(self._mode, wandb.setup().settings)
            self._wandb_init |= {"mode": mode, "id": _run_id(self._folder), "settings": _settings()}
            try:
                run = super().experiment
            except (CommError, UsageError) as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise UserError(
                    f"W&B cannot start the run ({reason}): logger.wandb.mode=offline does without"
                ) from error
            self._until_finished = undo.pop_all()
        return run


def _multirun_name() -> str | None:
    """The folder's name of the Hydra multirun that this process works on."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return public_text(Path(HydraConfig.get().sweep.dir).name)


def _run_id(folder: Path) -> str:
    """The id that the run folder keeps, drawn when it has none."""
    file = folder / "run_id.txt"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _mode(asked: str | None, session: Settings) -> str:
    """Online without a login would make wandb ask for one at the terminal, so it never comes to that.

    Args:
        asked: by the config.
        session: what wandb has read from its environment and files.

    Raises:
        UserError: when the server is asked for and there is no login for it.
    """
    asked, missing = asked or os.environ.get("WANDB_MODE"), missing_login(session)
    mode = asked or ("offline" if missing else session.mode)
    if mode not in ("offline", "dryrun", "disabled") and missing:
        raise UserError(f"W&B mode {mode} needs a login ({missing}): `wandb login`, or logger.wandb.mode=offline")
    return mode


def _settings() -> Settings:
    """Nothing about the machine or its user; and little is lost when the process is killed."""
    import wandb

    return wandb.Settings(
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        disable_git=True,
        disable_code=True,
        save_code=False,
        console="off",
        symlink=False,  # `wandb sync` would send latest-run a second time
        host="redacted",
        username="redacted",
        email="redacted",
        max_end_of_run_history_metrics=0,  # no sparklines in the terminal
        max_end_of_run_summary_metrics=0,
        init_timeout=INIT_TIMEOUT,
        x_transaction_log_flush_interval=1,  # seconds; by default 15, and a killed run leaves nothing
    )


def _folders(folder: Path) -> dict[str, str]:
    """wandb's environment variables that keep it inside `folder`.

    WANDB_CONFIG_DIR is not among them: the user's settings there name the server that may have the run.
    """
    return {
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_DATA_DIR": str(folder / "data"),  # holds artifacts until they are synced
    }


def _small(image: NDArray[np.uint8]) -> Image:
    """A copy of at most 256 pixels a side."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((LARGEST_IMAGE, LARGEST_IMAGE))
    return small

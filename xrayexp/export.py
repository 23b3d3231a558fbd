"""`xrayexp export`: merges a run's adapter into its base, and says how far the result is from what was trained."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from hydra.utils import instantiate
from rich.table import Table
from rich.text import Text

from xrayexp.adapters.attach import load_adapter, require_adapter
from xrayexp.adapters.merge import merge, require_mergeable
from xrayexp.checks import require
from xrayexp.errors import UserError, is_disk_full
from xrayexp.metrics.agreement import Agreement, agreement
from xrayexp.models.checks import is_hub_id, weights
from xrayexp.models.full_precision import bytes_of, is_stored_quantized, load_dequantized
from xrayexp.models.hub import push, require_free_name
from xrayexp.models.loading import load_model, load_processor
from xrayexp.quiet import quiet_libraries
from xrayexp.resume import config_of, moved
from xrayexp.run_data import data_module
from xrayexp.settings import Settings
from xrayexp.tracking.model_card import MergedModel, model_card
from xrayexp.tracking.public import last_component
from xrayexp.tracking.run_folder import RunFolder
from xrayexp.training.answers import Questions
from xrayexp.training.checks import accelerator, four_bit

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
SHARD = "5GB"
BESIDE_THE_WEIGHTS = 10**8  # bytes: tokenizer, card


@dataclass(frozen=True)
class ExportRequest:
    """What `xrayexp export` is asked for.

    Attributes:
        run: folder of the run.
        checkpoint: "best" or "last".
        to: the folder to be made; None for export/CHECKPOINT in the run's folder.
        dtype: of the weights, a key of `DTYPES`.
        base: folder or hub id of the full-precision base, when it is not the one that the run was trained on.
        dequantize: merge into the weights as the run quantised them.
        compare: validation images on which merged and unmerged model are compared; 0 for none.
        accelerator: cpu or gpu; None for the run's.
        data_root: folder of the data set on this machine; None for the run's.
        push: OWNER/NAME of a repository to be made on the hub; None for no upload.
    """

    run: Path
    checkpoint: str = "best"
    to: Path | None = None
    dtype: str = "bfloat16"
    base: str | None = None
    dequantize: bool = False
    compare: int = 4
    accelerator: str | None = None
    data_root: str | None = None
    push: str | None = None


@dataclass(frozen=True)
class ExportSummary:
    """What was written, and how it compares."""

    folder: Path
    merged: MergedModel
    bytes: int
    address: str | None

    def __rich__(self) -> Table:
        rows = {
            "model": f"{_size(self.bytes)}, {self.merged.dtype}",
            "merged into": self.merged.base + (", as quantised for training" if self.merged.dequantized else ""),
            **{f"beside {other}": str(found) for other, found in self.merged.agreements.items()},
            "comparison": self.merged.compared_on,
            "folder": str(self.folder),
            **({"on the hub": self.address} if self.address else {}),
        }
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(max_width=24)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(Text(name, style="bold"), Text(value))
        return table


def export(request: ExportRequest) -> ExportSummary:
    """Writes a model folder that transformers loads without this package, with its card.

    Raises:
        UserError: for whatever the user can fix, before anything slow wherever possible. Nothing is left behind.
    """
    quiet_libraries()
    job = _Export.planned(request)
    questions, compared_on = job.questions()
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.target.parent, prefix=f".{job.target.name}-") as temporary:
        fresh = Path(temporary) / "model"
        try:
            agreements = job.write(fresh, questions)
            merged = job.merged(agreements, compared_on)
            (fresh / "README.md").write_text(model_card(job.run, job.settings.cfg, merged), encoding="utf-8")
            job.write_notice(fresh)
        except torch.OutOfMemoryError as error:
            raise UserError("out of memory on the GPU: add --accelerator cpu, or --compare 0") from error
        except Exception as error:
            if is_disk_full(error):
                raise UserError(f"no room on the disk of {job.target.parent}: nothing was written") from error
            raise
        if job.target.exists():
            job.target.rmdir()  # it is empty
        fresh.rename(job.target)
    size = sum(file.stat().st_size for file in job.target.iterdir())
    address = push(job.target, request.push) if request.push else None
    return ExportSummary(job.target, merged, size, address)


@dataclass(frozen=True)
class _Export:
    """A request that has passed all checks."""

    request: ExportRequest
    run: RunFolder
    settings: Settings
    target: Path
    source: str  # of the base's weights

    @classmethod
    def planned(cls, request: ExportRequest) -> _Export:
        """Checks whatever can be checked without loading weights, what needs the network last."""
        run = RunFolder.open(request.run)
        require_adapter(run.adapter(request.checkpoint))
        target = request.to or run.export(request.checkpoint)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"{target} exists already, and is not overwritten: choose another folder with --to")
        here = moved(
            config_of(run),
            batch_size=request.compare or None,
            accelerator=request.accelerator,
            data_root=request.data_root,
        )
        settings = Settings.from_config(here)
        job = cls(request, run, settings, target, request.base or settings.model.pretrained)
        require([accelerator(settings.trainer.accelerator), weights(job.source)])
        if request.dequantize or request.compare:  # the model as it was trained is loaded too
            quantized = settings.quantization.config is not None
            require([weights(settings.model.pretrained), *([four_bit()] if quantized else [])])
        job.check_precision()
        job.check_room()
        if request.push:
            require_free_name(request.push)
        return job

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.request.dtype]

    @property
    def adapter(self) -> Path:
        return self.run.adapter(self.request.checkpoint)

    def check_precision(self) -> None:
        """The base must have full precision, or the user must say that the quantised weights will do."""
        quantized = is_stored_quantized(self.source)
        if self.request.dequantize and self.request.base is not None:
            raise UserError("--dequantize takes the run's own base: leave --base out")
        if self.request.dequantize and not quantized and self.settings.quantization.config is None:
            raise UserError("--dequantize: the run was trained on weights that were not quantised: leave it out")
        if quantized and not self.request.dequantize:
            raise UserError(
                f"{self.source} holds quantised weights, which an adapter is not merged into: give the same model in "
                "full precision with --base FOLDER, or add --dequantize to write the quantised weights out in full"
            )

    def check_room(self) -> None:
        """Says what the export takes, and refuses a disk that has not enough."""
        size = bytes_of(self.source, self.dtype)
        log.info("the model takes %s of the disk and, while it is made, half as much again of memory", _size(size))
        there = next(parent for parent in self.target.absolute().parents if parent.exists())
        free, needed = shutil.disk_usage(there).free, size + BESIDE_THE_WEIGHTS
        if free < needed:
            raise UserError(
                f"the model takes {_size(needed)}, and the disk of {there} has {_size(free)} free: make room, or "
                "choose another disk with --to"
            )

    def questions(self) -> tuple[Questions | None, str]:
        """Validation images to compare on, or None, and what to say of that."""
        wanted, data = self.request.compare, self.settings.data
        if not wanted:
            return None, "Merged and unmerged outputs were not compared: nobody asked for it."
        why_not = "Merged and unmerged outputs were not compared, for lack of the data: "
        if data.requires is not None and (check := instantiate(data.requires)).status == "missing":
            log.warning("%s%s", why_not, check.detail)
            return None, f"{why_not.removesuffix(': ')}."
        try:
            module = data_module(self.settings, None, splits=["validation"])
            batch = next(iter(module.val_dataloader()))
        except UserError as error:
            log.warning("%s%s", why_not, error)
            return None, f"{why_not.removesuffix(': ')}."
        if not batch.samples:
            return None, f"{why_not.removesuffix(': ')}."
        said = (
            f"Compared on {len(batch.samples)} validation images, along the reports that the unmerged model writes for "
            "them: too few to show rare differences."
        )
        return Questions(batch.samples, module.encoder, self.settings.model.max_new_tokens), said

    def write(self, folder: Path, questions: Questions | None) -> dict[str, Agreement]:
        """Merges, saves, and compares what was saved, each model loaded by itself."""
        log.info("loading %s in %s", self.source, self.request.dtype)
        unmerged = load_adapter(self._base(), self.adapter)
        require_mergeable(unmerged)
        if questions is None:
            self._save(unmerged, folder)
            return {}
        with _arithmetic(self.settings, self.dtype is torch.bfloat16):
            answers = questions.answers(unmerged)
            logits = questions.logits(unmerged, answers)
        self._save(unmerged, folder)
        del unmerged
        _free()
        saved = load_model(str(folder), quantization=None, dtype=self.dtype, device=self.settings.trainer.device)
        own = questions.logits(saved, answers)
        texts = [answer.text for answer in questions.answers(saved)]
        del saved
        _free()
        found = {"the adapter on the same base, not merged": agreement(logits, own, [a.text for a in answers], texts)}
        del logits
        log.info("loading the model as it was trained, quantization %s", self.settings.quantization.name)
        trained = load_adapter(self._base_as_trained(), self.adapter)
        with _arithmetic(self.settings, self.settings.trainer.dtype is torch.bfloat16):
            logits, before = questions.logits(trained, answers), questions.answers(trained)
        name = f"the model as it was trained (quantization {self.settings.quantization.name})"
        return found | {name: agreement(logits, own, [answer.text for answer in before], texts)}

    def merged(self, agreements: dict[str, Agreement], compared_on: str) -> MergedModel:
        """What the card is told."""
        about = self.settings.model.about
        copied = about.hub_id if about is not None else None
        return MergedModel(
            checkpoint=self.request.checkpoint,
            base=self.source if is_hub_id(self.source) else last_component(self.source),
            hub_id=self.source if is_hub_id(self.source) else copied,
            dtype=self.request.dtype,
            dequantized=self.request.dequantize,
            repository=self.request.push,
            agreements=agreements,
            compared_on=compared_on,
        )

    def write_notice(self, folder: Path) -> None:
        """The file that some licences ask for."""
        about = self.settings.model.about
        if about is not None and about.notice is not None:
            (folder / "NOTICE").write_text(
                f"{about.notice}\n\nThe weights in this folder were modified: an adapter was merged into them.\n",
                encoding="utf-8",
            )

    def _base(self) -> PreTrainedModel:
        """The weights to merge into."""
        device = self.settings.trainer.device
        if self.request.dequantize:
            quantization = self.settings.quantization_config()
            return load_dequantized(self.source, quantization=quantization, dtype=self.dtype, device=device)
        return load_model(self.source, quantization=None, dtype=self.dtype, device=device)

    def _base_as_trained(self) -> PreTrainedModel:
        return load_model(
            self.settings.model.pretrained,
            quantization=self.settings.quantization_config(),
            dtype=self.settings.trainer.dtype,
            device=self.settings.trainer.device,
        )

    def _save(self, unmerged: PeftModel, folder: Path) -> None:
        log.info("merging and writing")
        # The names of the original checkpoint, which older releases read too; transformers (5.23) cannot go back to
        # those of a quantised one.
        merge(unmerged).save_pretrained(folder, max_shard_size=SHARD, save_original_format=not self.request.dequantize)
        load_processor(str(self.adapter)).save_pretrained(folder)


@contextmanager
def _arithmetic(settings: Settings, bfloat16: bool) -> Iterator[None]:
    """An adapter in float32 on a base in bfloat16 computes as in training: under autocast."""
    with torch.autocast(settings.trainer.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        yield


def _size(number: int) -> str:
    """A number of bytes for people."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


def _free() -> None:
    """Gives the memory of a deleted model back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""The same training by TRL's SFTTrainer, with the settings that make it fastest.

Prompts are rendered and images prepared beforehand, where TRL would do it for every sample of every epoch; what its
collator and the processor then do is theirs. No log, no checkpoint, no progress bar. TRL neither packs nor leaves out
padding where there are images. bf16=True makes it slower on a CPU and take twice the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.results import Values
from experiments.speed_vs_trl.meter import Meter
from experiments.speed_vs_trl.task import DrawnPhantoms, Task, draw_images

if TYPE_CHECKING:
    from xrayexp.data.datamodule import ReportDataModule
    from xrayexp.data.examples import Example
    from xrayexp.settings import Settings


def measure(settings: Values, work: Path) -> Values:
    """What a row's training takes. TRL rounds adapters of quantised models to bfloat16, whatever it is told."""
    return _measure(settings, work, float32=False)


def measure_float32(settings: Values, work: Path) -> Values:
    """Likewise, but the adapter is put back to float32, as this package trains it: no setting of TRL does that."""
    return _measure(settings, work, float32=True)


def _measure(settings: Values, work: Path, float32: bool) -> Values:
    from importlib.metadata import version

    import lightning as L
    import torch

    from xrayexp.run_data import data_module
    from xrayexp.settings import Settings

    task = Task.of(settings, work)
    read = Settings.from_config(task.config(work / "theirs"))
    torch.set_num_threads(read.trainer.num_threads or torch.get_num_threads())
    L.seed_everything(read.seed, verbose=False)
    data = data_module(read, None)
    model = _model(read)
    exact = [parameter.data for parameter in model.parameters() if parameter.requires_grad]
    trainer, meter = _trainer(read, task, data, model, samples_of(data, draw_images(read, data)))
    if float32:
        for parameter, before in zip(trainer.optimizer.param_groups[0]["params"], exact, strict=True):
            parameter.data = before
    meter.before_training()
    done = trainer.train()
    meter.after_training(done.training_loss)
    return meter.values | {"trl": version("trl")}


def samples_of(data: ReportDataModule, examples: Sequence[Example]) -> list[Values]:
    """Prompt, completion and image as TRL takes them; the tokens are those of this package's encoder."""
    from PIL import Image

    from xrayexp.data.collate import END_OF_TURN
    from xrayexp.data.report import write_report

    content = [{"type": "image"}, {"type": "text", "text": data.section.prompt}]
    prompt = data.encoder.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return [
        {
            "prompt": prompt,
            "completion": write_report(example.findings) + END_OF_TURN,
            "images": [Image.fromarray(data.encoder.fit(DrawnPhantoms.drawn[example.image_id])).convert("RGB")],
        }
        for example in examples
    ]


def _model(settings: Settings) -> Any:
    """The quantised base with PEFT's LoRA, whose layers TRL leaves as they are."""
    from hydra.utils import instantiate
    from peft import get_peft_model
    from transformers import AutoModelForImageTextToText

    from xrayexp.adapters.targets import target_modules
    from xrayexp.models.loading import resolve_pretrained

    base = AutoModelForImageTextToText.from_pretrained(
        resolve_pretrained(settings.model.pretrained),
        quantization_config=settings.quantization_config(),
        dtype=settings.trainer.dtype,
        attn_implementation=settings.model.attention,
    )
    targets = target_modules(base, settings.adapter.target)
    config = instantiate(settings.adapter.peft, target_modules=targets, task_type="CAUSAL_LM", _convert_="all")
    return get_peft_model(base, config)


def _trainer(
    settings: Settings, task: Task, data: ReportDataModule, model: Any, samples: Sequence[Values]
) -> tuple[Any, Meter]:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    meter = Meter(task.unmeasured, task.samples)

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.after_step(state.global_step)

    # A picture in memory, not a PNG that is decoded each time.
    dataset = Dataset.from_dict({"row": list(range(len(samples)))}).with_transform(
        lambda rows: {name: [samples[row][name] for row in rows["row"]] for name in samples[0]}
    )
    optimizer = settings.optimizer()([p for p in model.parameters() if p.requires_grad])
    config = SFTConfig(
        output_dir=settings.cfg["paths"]["output_dir"],
        max_steps=task.steps,
        per_device_train_batch_size=task.batch,
        train_sampling_strategy="sequential",
        max_grad_norm=settings.trainer.gradient_clip,
        gradient_checkpointing=settings.trainer.gradient_checkpointing,
        max_length=None,
        bf16=False,
        use_cpu=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model,
        args=config,
        train_dataset=dataset,
        processing_class=data.encoder.processor,
        optimizers=(optimizer, settings.scheduler()(optimizer, task.steps)),
        callbacks=[Watch()],
    )
    return trainer, meter

"""What all tests share: an environment without network, composed configs, and one small trained run."""

from __future__ import annotations

import os

# Read by the libraries while they are imported, so they are set before anything else.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hypothesis import settings
from omegaconf import DictConfig

from xrayexp.config import config_dir, register_resolvers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from xrayexp.data.collate import EncodedSample, ReportEncoder
    from xrayexp.tracking.summary import TrainingSummary

Compose = Callable[..., DictConfig]

settings.register_profile("xrayexp", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("xrayexp")

# A run of seconds: 200 patients, of whom a few images are used.
SMALL = (
    "data.source.patients=200",
    "data.max_images={train: 64, validation: 6, test: 16}",
    "trainer.effective_batch_size=8",
    "trainer.max_steps=2",
    "trainer.validate_every=2",
    "trainer.log_every=1",
    "test=false",
)


@pytest.fixture(scope="session")
def small() -> Sequence[str]:
    """Overrides that make a run last seconds: 2 steps of 8 samples, 1 validation, no test."""
    return SMALL


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """`compose(*overrides)`: the config of `python train.py OVERRIDES`, with a run folder of its own."""
    register_resolvers()

    def composed(*overrides: str, config: str = "train") -> DictConfig:
        folder = f"paths.output_dir={tmp_path_factory.mktemp('run')}"
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            return hydra_compose(config, [*([folder] if config != "evaluate" else []), *overrides])

    return composed


@pytest.fixture(scope="session")
def trained_run(compose: Compose, small: Sequence[str]) -> TrainingSummary:
    """A run of 30 steps through the whole pipeline: quantised, trained, validated twice and tested."""
    from xrayexp import pipeline

    longer = ("trainer.max_steps=30", "trainer.validate_every=15", "trainer.effective_batch_size=16", "test=true")
    return pipeline.train(compose(*small, *longer))


@pytest.fixture(scope="session")
def encoder(compose: Compose) -> ReportEncoder:
    """The encoder of the default config."""
    from xrayexp.data.collate import ReportEncoder
    from xrayexp.models.loading import load_processor

    cfg = compose()
    return ReportEncoder(load_processor(cfg.model.pretrained), cfg.data.prompt, cfg.model.max_length)


@pytest.fixture(scope="session")
def samples(compose: Compose, encoder: ReportEncoder) -> Sequence[EncodedSample]:
    """Eight training samples of the default data set, of different length."""
    from hydra.utils import instantiate

    from xrayexp.data.examples import examples_from_table

    source = instantiate(compose("data.source.patients=6").data.source, _convert_="all")
    examples = examples_from_table(source.table())[:8]
    return [encoder.encode(example, source.image(example.image_id), supervised=True) for example in examples]


@pytest.fixture(scope="session")
def load_tiny(compose: Compose) -> Callable[..., PreTrainedModel]:
    """`load_tiny("nf4")`: the default model in float32 on the CPU, quantised as conf/quantization/nf4.yaml says."""
    import torch
    from hydra.utils import instantiate

    from xrayexp.models.loading import load_model

    def load(quantization: str = "none", pretrained: str | None = None) -> PreTrainedModel:
        cfg = compose(f"quantization={quantization}")
        return load_model(
            pretrained or cfg.model.pretrained,
            quantization=instantiate(cfg.quantization.config),
            dtype=torch.float32,
            device=torch.device("cpu"),
        )

    return load


@pytest.fixture
def padchest(tmp_path: Path) -> Path:
    """PadChest's folder: the sample table of 100 rows, and for each an image of 12 bits in 16 in its own folder."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    from xrayexp.data.label_file import LABEL_FILES

    folder = tmp_path / "PadChest"
    folder.mkdir()
    table = pd.read_csv(config_dir().parent / "docs" / "padchest_sample.csv", dtype=str)
    table.rename(columns={"Unnamed: 0": ""}).to_csv(folder / LABEL_FILES[0], index=False)
    rng = np.random.default_rng(0)
    for name, image_dir in zip(table["ImageID"], table["ImageDir"], strict=True):
        (folder / image_dir).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 4096, size=(60, 50)).astype(np.uint16)).save(folder / image_dir / name)
    return folder

"""A folder of PadChest's shape: the sample table several times over, and 16-bit PNGs of about PadChest's size.

A few chests are drawn as phantoms, enlarged to the detector's pixels and given its noise, without which PNG would
compress them far better than it does X-rays. All rows share these files by hard links.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from experiments.results import Values
from experiments.study import ROOT
from xrayexp.data import table as columns
from xrayexp.data.label_file import LABEL_FILES
from xrayexp.data.phantom import PhantomSource
from xrayexp.data.phantom_drawing import Acquisition

SAMPLE = ROOT / "docs" / "padchest_sample.csv"
DRAWN = 640  # pixels of a side, before it is enlarged
PLAIN = Acquisition(contrast=(0.65, 1.0), noise=(0.0, 0.0), rotation=5.0, zoom=(0.94, 1.06), shift=0.04)
DARKEST, BRIGHTEST = 200, 3800  # of 12 bits
NOISE = 24.0  # standard deviation: files come to PadChest's 6 MB


def folder_of_radiographs(work: Path, settings: Values) -> Path:
    """Where it is; made there unless an earlier row has."""
    folder = work / "radiographs-{height}x{width}-{distinct}-{copies}".format(**settings)
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        _make(unfinished, settings)
        unfinished.replace(folder)
    return folder


def files_of(folder: Path) -> list[Path]:
    """The different files, each once."""
    return sorted((folder / "drawn").iterdir())


def _make(folder: Path, settings: Values) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "drawn").mkdir(parents=True)
    source = PhantomSource(settings["distinct"], DRAWN, 0, PLAIN)
    first_studies = source.table().drop_duplicates(columns.PATIENT)[columns.IMAGE]
    for number, name in enumerate(first_studies):
        grey = _enlarged(source.image(name), settings["height"], settings["width"], number)
        Image.fromarray(grey).save(folder / "drawn" / f"{number:03d}.png")
    table = _labels(settings["copies"])
    table.to_csv(folder / LABEL_FILES[0], index=False)
    files = files_of(folder)
    for number, (name, image_dir) in enumerate(zip(table[columns.IMAGE], table[columns.FOLDER], strict=True)):
        (folder / image_dir).mkdir(exist_ok=True)
        os.link(files[number % len(files)], folder / image_dir / name)


def _enlarged(image: NDArray[np.uint8], height: int, width: int, seed: int) -> NDArray[np.uint16]:
    """Grey values of 12 bits, [height, width]."""
    smooth = Image.fromarray(image.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    signal = DARKEST + np.asarray(smooth) * ((BRIGHTEST - DARKEST) / 255)
    noise = np.random.default_rng(seed).normal(0, NOISE, signal.shape)
    return np.clip(signal + noise, 0, 2**12 - 1).astype(np.uint16)


def _labels(copies: int) -> pd.DataFrame:
    """The sample table, again and again under other names."""
    sample = pd.read_csv(SAMPLE, dtype=str, keep_default_na=False).rename(columns={"Unnamed: 0": ""})
    names = [columns.IMAGE, columns.PATIENT, columns.STUDY, columns.REPORT]
    tables = [sample.assign(**{name: f"{number}" + sample[name] for name in names}) for number in range(copies)]
    return pd.concat(tables, ignore_index=True)

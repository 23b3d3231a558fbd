"""Ways to read one file, each a function from a path to grey values."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xrayexp.data.files import file_version
from xrayexp.data.images import fit_square, read_image
from xrayexp.data.preprocessing import PreprocessingSection, preprocess
from xrayexp.data.square_cache import SquareCache

SIZE = 896  # pixels of a side, as Gemma 3 sees images
FILTER = Image.Resampling.BILINEAR

Reader = Callable[[Path], Any]

PIL_LOOP, DECODE, PREPARE, CACHE = "PIL loop", "decode", "decode and prepare", "cache"
NEEDS = {"TorchXRayVision's way": "scikit-image", "MONAI": "monai"}  # the packages that some ways need


def installed() -> dict[str, str | None]:
    """The versions of the packages that some ways need; None where one is not installed."""
    return {name: _version(package) for name, package in NEEDS.items()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def readers(paths: list[Path], work: Path) -> dict[str, Reader]:
    """Every way that can be measured here; what the last one reads is put into its cache first."""
    ways: dict[str, Callable[[], Reader]] = {"TorchXRayVision's way": _torchxrayvision, "MONAI": _monai}
    others = {name: ways[name]() for name, found in installed().items() if found is not None}
    return {PIL_LOOP: pil_loop, **others, DECODE: read_image, PREPARE: prepare, CACHE: _cache(paths, work)}


def pil_loop(path: Path) -> np.ndarray:
    """What a loader does at the least: open, scale 16 bits by the image's own range, resize."""
    with Image.open(path) as file:
        values = np.asarray(file, dtype=np.float32)
    low, high = values.min(), values.max()
    grey = ((values - low) * (255 / (high - low))).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((SIZE, SIZE), FILTER))


def prepare(path: Path) -> np.ndarray:
    """What this package does: robust scaling, a square that keeps the proportions, the processor's filter."""
    image, _ = preprocess(read_image(path), PreprocessingSection(crop_borders=False, clahe=None))
    return fit_square(image, SIZE, FILTER)


def _cache(paths: list[Path], work: Path) -> Reader:
    names = [path.name for path in paths]
    cache = SquareCache(work / "cache", ["read alone"], SIZE, names)
    for path in paths:
        cache.write(path.name, file_version(path), prepare(path))

    def read(path: Path) -> np.ndarray:
        square = cache.read(path.name, file_version(path))
        assert square is not None
        return square

    return read


def _torchxrayvision() -> Reader:
    """`PC_Dataset`, `XRayCenterCrop` and `XRayResizer` of torchxrayvision 1.5.7, whose import needs torchvision."""
    from skimage.io import imread
    from skimage.transform import resize

    def read(path: Path) -> np.ndarray:
        image = (2 * (imread(path).astype(np.float32) / 65535) - 1.0) * 1024
        height, width = image.shape
        side = min(height, width)
        top, left = height // 2 - side // 2, width // 2 - side // 2
        cropped = image[None, top : top + side, left : left + side]
        resized: np.ndarray = resize(cropped, (1, SIZE, SIZE), mode="constant", preserve_range=True)
        return resized.astype(np.float32)

    return read


def _monai() -> Reader:
    from monai.transforms import Compose, LoadImage, Resize, ScaleIntensityRangePercentiles

    steps = (
        LoadImage(image_only=True, ensure_channel_first=True, reader="PILReader"),
        ScaleIntensityRangePercentiles(0.5, 99.5, 0, 255, clip=True),
        Resize(SIZE, size_mode="longest", mode="area"),
    )
    read: Reader = Compose(steps)
    return read

"""Examples with their images, encoded when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch.utils.data import Dataset

from xrayexp.data.collate import BrokenImage, EncodedSample
from xrayexp.data.preprocessing import preprocess
from xrayexp.data.sampler import Draw
from xrayexp.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xrayexp.data.augmentation import Augmentation
    from xrayexp.data.collate import ReportEncoder
    from xrayexp.data.examples import Example, Source
    from xrayexp.data.preprocessing import PreprocessingSection

KEPT_BYTES = 2**30  # of squares, in every process that prepares samples


class Cache(Protocol):
    """Keeps prepared squares by ImageID; `version` is that of the image that a square was made from."""

    def read(self, image_id: str, version: str) -> NDArray[np.uint8] | None:
        """The square, or None when it has to be prepared."""
        ...

    def write(self, image_id: str, version: str, square: NDArray[np.uint8]) -> None:
        """Keeps a square."""
        ...


class NoCache:
    """Every image is prepared every time."""

    def read(self, image_id: str, version: str) -> None:
        """Nothing is kept."""

    def write(self, image_id: str, version: str, square: NDArray[np.uint8]) -> None:
        """Keeps nothing."""


class MemoryCache:
    """Keeps squares in this process, as many as fit into `KEPT_BYTES`."""

    def __init__(self) -> None:
        self._room = KEPT_BYTES
        self._kept: dict[tuple[str, str], NDArray[np.uint8]] = {}

    def read(self, image_id: str, version: str) -> NDArray[np.uint8] | None:
        """The square, if it was kept."""
        return self._kept.get((image_id, version))

    def write(self, image_id: str, version: str, square: NDArray[np.uint8]) -> None:
        """Keeps a square while there is room."""
        if square.nbytes <= self._room:
            self._room -= square.nbytes
            self._kept[image_id, version] = square


class ReportDataset(Dataset[EncodedSample | BrokenImage]):
    """Examples with their images; what cannot be read comes as a `BrokenImage`.

    Args:
        examples: real or synthetic.
        source: of the images of real examples.
        synthetic: of those of synthetic ones.
        encoder: makes samples of them.
        preprocessing: what is done to every image.
        cache: where prepared squares are kept.
        supervised: whether samples carry their report.
        augmentation: random changes; None for none.
        threads: images of a batch that are read at once.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        source: Source,
        encoder: ReportEncoder,
        preprocessing: PreprocessingSection,
        *,
        supervised: bool,
        cache: Cache,
        synthetic: Source | None = None,
        augmentation: Augmentation | None = None,
        threads: int = 1,
    ) -> None:
        self.examples, self.source, self.synthetic = examples, source, synthetic
        self.encoder, self.preprocessing, self.supervised = encoder, preprocessing, supervised
        self.cache, self.augmentation, self.threads = cache, augmentation, threads

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, draw: int | Draw) -> EncodedSample | BrokenImage:
        return self._sample(draw, self._prepared(draw))

    def __getitems__(self, draws: Sequence[int | Draw]) -> list[EncodedSample | BrokenImage]:
        """A whole batch: threads wait for a slow disk together, and decoders let each other run."""
        if self.threads == 1:
            return [self[draw] for draw in draws]
        with ThreadPoolExecutor(self.threads) as pool:
            squares = list(pool.map(self._prepared, draws))
        return [self._sample(draw, square) for draw, square in zip(draws, squares, strict=True)]

    def _sample(self, draw: int | Draw, square: NDArray[np.uint8] | BrokenImage) -> EncodedSample | BrokenImage:
        index, place = draw if isinstance(draw, Draw) else (draw, 0)
        if isinstance(square, BrokenImage):
            return square
        if self.augmentation is not None:
            square = self.augmentation.image(square, place)
        return self.encoder.encode(self.examples[index], square, supervised=self.supervised)

    def _prepared(self, draw: int | Draw) -> NDArray[np.uint8] | BrokenImage:
        example = self.examples[draw.sample if isinstance(draw, Draw) else draw]
        try:
            return self._square(example)
        except DataError as error:
            return BrokenImage(example.image_id, str(error))

    def _square(self, example: Example) -> NDArray[np.uint8]:
        """The image as the model sees it, [size, size].

        Raises:
            DataError: the image is missing or broken.
        """
        source = self.source if example.provenance is None else self.synthetic
        assert source is not None
        # Asked for before the image is read: one that changes meanwhile is read again the next time.
        version = f"{source.origin}: {source.version(example.image_id)}"
        square = self.cache.read(example.image_id, version)
        if square is None:
            image, _ = preprocess(source.image(example.image_id), self.preprocessing)
            square = self.encoder.fit(image)
            self.cache.write(example.image_id, version, square)
        return square

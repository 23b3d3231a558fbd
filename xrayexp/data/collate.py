"""From an example to tokens, and from samples to padded micro-batches.

One encoder serves training and generation: a training sample is the generation prompt followed by the
report, so the model is asked in exactly the tokens that it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import default_collate

from xrayexp.data.images import fit_square
from xrayexp.data.report import Finding, write_report
from xrayexp.errors import DataError
from xrayexp.progress import watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xrayexp.data.examples import Example

IGNORED = -100  # the label of a position that is not supervised, as torch's cross-entropy skips it
TOKENS = ("input_ids", "labels", "token_type_ids")  # of a sample
END_OF_TURN = "<end_of_turn>"


@dataclass(frozen=True, slots=True)
class PixelScale:
    """From grey values to what the vision tower takes: (grey - mean) / std, per channel.

    Attributes:
        mean: in grey values of 0 to 255, by channel.
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """From uint8 [batch, height, width] to float32 [batch, channels, height, width]."""
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std))
        return (pixels[:, None].float() - mean).div_(std)


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One example as tensors.

    Attributes:
        example: where the sample comes from.
        input_ids: int64 [tokens]; the prompt, then (for training) the report and its end of turn.
        labels: int64 [tokens]; equal to `input_ids` at the report and its end of turn, -100 elsewhere.
        token_type_ids: int64 [tokens]; 1 at image tokens, which attend to each other in both directions.
        pixels: uint8 [height, width]; grey, as it travels from the processes that prepare samples.
        scale: what makes `pixel_values` of them.
    """

    example: Example
    input_ids: torch.Tensor
    labels: torch.Tensor
    token_type_ids: torch.Tensor
    pixels: torch.Tensor
    scale: PixelScale

    @property
    def pixel_values(self) -> torch.Tensor:
        """The vision tower's input, float32 [3, height, width]."""
        return self.scale.apply(self.pixels[None])[0]


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """A sample that could not be prepared, and why."""

    image_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Samples padded to one length.

    Attributes:
        samples: what was padded.
        tokens: the model's keyword arguments but its pixels, [batch, tokens].
        pixels: uint8 [batch, height, width].
        labels: int64 [batch, tokens].
    """

    samples: tuple[EncodedSample, ...]
    tokens: dict[str, torch.Tensor]
    pixels: torch.Tensor
    labels: torch.Tensor

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The model's keyword arguments."""
        return self.tokens | {"pixel_values": self.pixel_values(range(len(self.samples)))}

    def pixel_values(self, rows: Iterable[int]) -> torch.Tensor:
        """The vision tower's input for some of the samples, float32 [rows, channels, height, width].

        They take twelve times the memory of `pixels`: they are made anew, where the batch is.
        """
        return torch.cat([self.samples[row].scale.apply(self.pixels[row][None]) for row in rows])

    def to(self, device: torch.device) -> MicroBatch:
        """The same inputs on `device`; the labels stay, for the loss looks at them before the device is ready."""
        moved = {name: tensor.to(device) for name, tensor in self.tokens.items()}
        return MicroBatch(self.samples, moved, self.pixels.to(device), self.labels)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the data loader yields: the samples of one optimiser step, or of one round of generation."""

    samples: tuple[EncodedSample, ...]
    pad_token_id: int
    broken: tuple[BrokenImage, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __reduce__(self) -> tuple[Any, ...]:
        """As it travels from the process that prepared it, at half the CPU time of a tensor each.

        Every tensor is a file in memory of its own, and its handle is sent apart. So all pixels share one, and tokens
        go as numpy arrays, by value.
        """
        tokens = [
            (sample.example, {name: getattr(sample, name).numpy() for name in TOKENS}, sample.scale)
            for sample in self.samples
        ]
        pixels = default_collate([sample.pixels for sample in self.samples]) if self.samples else ()
        return _arrived, (tokens, pixels, self.pad_token_id, self.broken)

    @property
    def supervised_tokens(self) -> int:
        """Number of positions with a label, over all samples."""
        return sum(int((sample.labels != IGNORED).sum()) for sample in self.samples)

    def padded(self) -> MicroBatch:
        """All samples together, in their order."""
        return pad(self.samples, self.pad_token_id)

    def micro_batches(self, size: int) -> Iterator[MicroBatch]:
        """Cuts the batch into pieces of at most `size` samples, each padded to its own longest sample.

        Samples of like length go together: less padding, and the sum over the batch does not depend on the cut.
        """
        ordered = sorted(self.samples, key=lambda sample: -len(sample.input_ids))
        for start in range(0, len(ordered), size):
            yield pad(ordered[start : start + size], self.pad_token_id)


def _arrived(
    tokens: Sequence[tuple[Any, ...]], pixels: torch.Tensor, pad_token_id: int, broken: tuple[BrokenImage, ...]
) -> Batch:
    """A batch from what `Batch.__reduce__` sent; pixels [samples, height, width]."""
    samples = [
        EncodedSample(
            example, pixels=image, scale=scale, **{name: torch.from_numpy(array) for name, array in arrays.items()}
        )
        for (example, arrays, scale), image in zip(tokens, pixels, strict=True)
    ]
    return Batch(tuple(samples), pad_token_id, broken)


def collate(items: list[EncodedSample | BrokenImage], pad_token_id: int) -> Batch:
    """The data loader's `collate_fn`: broken images are set apart, padding waits until the batch is cut."""
    samples = tuple(item for item in items if isinstance(item, EncodedSample))
    return Batch(samples, pad_token_id, tuple(item for item in items if isinstance(item, BrokenImage)))


def pad(samples: Sequence[EncodedSample], pad_token_id: int) -> MicroBatch:
    """Pads on the left, as generation needs it; training does not mind, since padding is masked.

    Raises:
        DataError: when a sample has no image token marked. Without `token_type_ids` transformers silently
            makes attention between image tokens causal.
    """
    for sample in samples:
        if not bool(sample.token_type_ids.any()):
            raise DataError(f"{sample.example.image_id}: no image token is marked in token_type_ids")
    length = max(len(sample.input_ids) for sample in samples)

    def stack(name: str, fill: int) -> torch.Tensor:  # [batch, tokens]
        out = torch.full((len(samples), length), fill, dtype=torch.long)
        for row, sample in zip(out, samples, strict=True):
            values: torch.Tensor = getattr(sample, name)
            row[length - len(values) :] = values
        return out

    lengths = torch.tensor([len(sample.input_ids) for sample in samples])
    tokens = {
        "input_ids": stack("input_ids", pad_token_id),
        "attention_mask": (torch.arange(length) >= length - lengths[:, None]).long(),
        "token_type_ids": stack("token_type_ids", 0),
    }
    pixels = torch.stack([sample.pixels for sample in samples])  # [batch, height, width]
    return MicroBatch(tuple(samples), tokens, pixels, stack("labels", IGNORED))


class ReportEncoder:
    """Encodes examples for one processor and one prompt.

    Args:
        processor: a Hugging Face vision-language processor with a chat template (`Gemma3Processor`).
        prompt: what the user asks, beside the image.
        max_length: the most tokens that a training sample may have, prompt and image included.
    """

    def __init__(self, processor: Any, prompt: str, max_length: int) -> None:
        self.processor, self.max_length = processor, max_length
        self.pad_token_id: int = processor.tokenizer.pad_token_id
        # The processor has an attribute of this name, which is the id of <start_of_image>.
        self.image_token_id: int = processor.tokenizer.image_token_id
        self.prompt_ids = self._encode_prompt(prompt)  # [prompt tokens]
        image_tokens = int((self.prompt_ids == self.image_token_id).sum())
        if image_tokens != processor.image_seq_length:
            raise DataError(f"the prompt holds {image_tokens} image tokens, not {processor.image_seq_length}")
        images = processor.image_processor
        self.image_size: int = images.size["height"]
        self.resample: int = images.resample
        to_grey = round(1 / images.rescale_factor)
        self.scale = PixelScale(
            *(tuple(to_grey * v for v in values) for values in (images.image_mean, images.image_std))
        )
        self.end_of_turn: int = processor.tokenizer.convert_tokens_to_ids(END_OF_TURN)
        self._reports: dict[tuple[Finding, ...], torch.Tensor] = {}  # many images share their report

    def _encode_prompt(self, prompt: str) -> torch.Tensor:
        """The user's turn with expanded image tokens, up to where the model's answer starts."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        # The template already begins with <bos>. The prompt is the same for every image, hence a blank one.
        blank = np.zeros((32, 32, 3), dtype=np.uint8)
        encoded = self.processor(text=[text], images=[[blank]], add_special_tokens=False, return_tensors="pt")
        ids: torch.Tensor = encoded["input_ids"][0]
        return ids

    def report_ids(self, example: Example) -> torch.Tensor:
        """The supervised part: the report and its end of turn, int64 [tokens]."""
        ids = self._reports.get(example.findings)
        if ids is None:
            tokens = self.processor.tokenizer(write_report(example.findings), add_special_tokens=False)["input_ids"]
            ids = self._reports[example.findings] = torch.tensor([*tokens, self.end_of_turn])
        return ids

    def length(self, example: Example) -> int:
        """Tokens of the training sample."""
        return len(self.prompt_ids) + len(self.report_ids(example))

    def fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image [height, width] as the vision tower sees it: on a black square, resized, [size, size].

        The processor would resize without keeping the aspect ratio. What fits already is returned as it is.
        """
        return fit_square(image, self.image_size, self.resample)

    def encode(self, example: Example, image: NDArray[np.uint8], *, supervised: bool) -> EncodedSample:
        """One sample; with its report when `supervised`, else the prompt alone.

        Raises:
            DataError: when the sample is longer than `max_length`. Supervised text is never cut.
        """
        report = self.report_ids(example) if supervised else self.prompt_ids.new_empty(0)
        input_ids = torch.cat([self.prompt_ids, report])
        if len(input_ids) > self.max_length:
            raise DataError(
                f"{example.image_id}: {len(input_ids)} tokens, more than model.max_length={self.max_length}"
            )
        labels = torch.cat([torch.full_like(self.prompt_ids, IGNORED), report])
        types = (input_ids == self.image_token_id).long()
        pixels = torch.from_numpy(self.fit(image))
        return EncodedSample(example, input_ids, labels, types, pixels, self.scale)


def check_lengths(encoder: ReportEncoder, examples: Sequence[Example]) -> None:
    """Refuses a training set in which any sample is too long, before training starts.

    Raises:
        DataError: with the number of such samples, the longest ones by name, and the length that would do.
    """
    watched = watch("reports measured", examples, len(examples))
    lengths = {example.image_id: encoder.length(example) for example in watched}
    long = sorted((i for i, n in lengths.items() if n > encoder.max_length), key=lambda i: -lengths[i])
    if long:
        named = ", ".join(f"{image_id} ({lengths[image_id]} tokens)" for image_id in long[:3])
        raise DataError(
            f"{len(long)} of {len(examples)} training samples are longer than model.max_length="
            f"{encoder.max_length}: {named}. Reports are never cut: set model.max_length={lengths[long[0]]}."
        )

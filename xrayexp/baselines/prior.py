"""A random report of the training split for every image: what a score owes to knowing how frequent findings are."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from xrayexp.baselines.base import Asked, Baseline, Training
from xrayexp.data.report import Report
from xrayexp.errors import ConfigError


class Prior(Baseline):
    """Draws whole reports, so that findings come with their frequency, and with those that they really come with.

    Findings drawn one by one would contradict each other ("normal" beside a mass). An image's draw depends on its id
    and the seed alone, not on what else is asked.

    Args:
        seed: of the draws.

    Raises:
        ConfigError: a negative seed.
    """

    def __init__(self, seed: int = 0) -> None:
        if seed < 0:
            raise ConfigError([f"seed must be at least 0, not {seed}"])
        self.seed = seed

    def answers(self, training: Training, asked: Asked) -> Iterator[tuple[str, Report]]:
        """One draw for each."""
        key = str(self.seed).encode()
        for image_id in asked.image_ids:
            drawn = int.from_bytes(blake2b(image_id.encode(), key=key, digest_size=8).digest(), "big")
            yield image_id, Report(training.examples[drawn % len(training.examples)].findings)

"""How a phantom is drawn: a chest from ellipses and domes, one painter per finding, then the acquisition.

Coordinates are anatomical: x runs from -1 (the patient's right, the left edge of the image) to 1, y from -1
(neck) to 1 (abdomen). Rotation, zoom and shift are applied to the coordinates, so nothing is resampled.
Brightness is attenuation: 0 is air, 1 is metal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xrayexp.data.report import Finding
from xrayexp.errors import ConfigError

SIGN = {"right": -1.0, "left": 1.0}
# Centres of the lobes' visible middle in a frontal view, (x, y).
LOBE_CENTRES = {
    "right upper lobe": (-0.42, -0.42),
    "right lower lobe": (-0.42, 0.16),
    "left upper lobe": (0.42, -0.42),
    "left lower lobe": (0.45, 0.16),
}
Painter = Callable[["Chest", Finding, np.random.Generator], list[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Ranges from which each image's acquisition is drawn, uniformly.

    Attributes:
        contrast: (lowest, highest) factor on the brightness around its middle.
        noise: (lowest, highest) standard deviation of the pixel noise, as a share of the full range.
        rotation: largest rotation to either side, in degrees.
        zoom: (lowest, highest) magnification.
        shift: largest displacement to any side, as a share of half the image.
    """

    contrast: tuple[float, float]
    noise: tuple[float, float]
    rotation: float
    zoom: tuple[float, float]
    shift: float

    def __post_init__(self) -> None:
        problems = [
            f"data.source.acquisition.{name} must be [lowest, highest], not {value}"
            for name, value in (("contrast", self.contrast), ("noise", self.noise), ("zoom", self.zoom))
            if not _is_range(value)
        ]
        if not problems and not self.zoom[0] > 0:
            problems.append(f"data.source.acquisition.zoom must be above 0, not {self.zoom}")
        problems += [
            f"data.source.acquisition.{name} must be a number of at least 0, not {value}"
            for name, value in (("rotation", self.rotation), ("shift", self.shift))
            if not isinstance(value, int | float) or not 0 <= value < math.inf
        ]
        if problems:
            raise ConfigError(problems)


def _is_range(value: object) -> bool:
    """Whether it is two finite numbers, the lower first and none below 0."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        return False
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in value):
        return False
    return bool(0 <= value[0] <= value[1])


@dataclass(frozen=True, slots=True)
class Box:
    """Where a finding lies, in pixels; `y1` and `x1` are exclusive."""

    finding: str
    y0: int
    x0: int
    y1: int
    x1: int


class Chest:
    """The canvas: coordinate grids, the brightness drawn so far, and where this patient's organs lie."""

    def __init__(self, x: np.ndarray, y: np.ndarray, names: frozenset[str], anatomy: np.random.Generator) -> None:
        self.x, self.y = x, y  # [height, width] each
        width, height = anatomy.uniform(0.93, 1.07, size=2)
        self.lung_radii = {"right": (0.31 * width, 0.66 * height), "left": (0.29 * width, 0.64 * height)}
        self.dome = {
            "right": 0.44 + anatomy.uniform(-0.03, 0.03),
            "left": 0.50 + anatomy.uniform(-0.03, 0.03),
        }
        self.heart_scale = anatomy.uniform(0.92, 1.05) * (1.42 if "cardiomegaly" in names else 1.0)
        self.spine_bend = (0.16 if anatomy.random() < 0.5 else -0.16) if "scoliosis" in names else 0.0
        self.image = np.zeros_like(x)
        self.lungs: dict[str, np.ndarray] = {}

    def blend(self, mask: np.ndarray, brightness: float) -> None:
        """Moves the image towards `brightness` where `mask` is 1."""
        self.image += mask * (brightness - self.image)

    def add(self, mask: np.ndarray, brightness: float) -> None:
        """Adds attenuation, as an overlapping structure does on film."""
        self.image += mask * brightness

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, edge: float = 0.12) -> np.ndarray:
        """1 inside, 0 outside, with an edge that is soft over `edge` radii."""
        distance = np.sqrt(((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2)
        inside: np.ndarray = np.clip((1.0 - distance) / edge + 0.5, 0.0, 1.0)
        return inside

    def below(self, level: np.ndarray | float, edge: float = 0.04) -> np.ndarray:
        """1 where y lies under `level` (towards the abdomen)."""
        under: np.ndarray = np.clip((self.y - level) / edge + 0.5, 0.0, 1.0)
        return under

    def line(self, distance: np.ndarray, thickness: float) -> np.ndarray:
        """1 where `distance` to the line is under half its thickness, soft by one pixel or so."""
        on_line: np.ndarray = np.clip((thickness / 2 - np.abs(distance)) / 0.015 + 0.5, 0.0, 1.0)
        return on_line

    def build(self, raised: frozenset[str]) -> None:
        """Draws the healthy chest; `raised` names the sides with an elevated hemidiaphragm."""
        self.blend(self.ellipse(0.0, 0.1, 0.95, 1.25, edge=0.08), 0.52)
        for side, sign in SIGN.items():
            rx, ry = self.lung_radii[side]
            dome = self.dome[side] - (0.30 if side in raised else 0.0)
            level = dome + 0.9 * (self.x - sign * 0.40) ** 2 / rx * 0.31
            lung = self.ellipse(sign * 0.44, -0.06, rx, ry, edge=0.1) * (1.0 - self.below(level))
            self.lungs[side] = lung
            self.blend(lung, 0.14)
        self._ribs()
        centre = self.spine_bend * np.sin(np.pi * (self.y + 0.7) / 1.4)
        self.add(self.line(self.x - centre, 0.13), 0.12)
        scale = self.heart_scale
        self.blend(self.ellipse(0.10 * scale, 0.26, 0.25 * scale, 0.23 * scale**0.5), 0.58)
        self.blend(self.ellipse(0.02, -0.30, 0.11, 0.42), 0.55)
        self.blend(self.ellipse(0.13, -0.38, 0.07, 0.07, edge=0.3), 0.58)

    def _ribs(self) -> None:
        phase = (self.y + 0.35 * np.abs(self.x) ** 1.5) * 11.0
        self.add((self.lungs["right"] + self.lungs["left"]) * np.clip(np.cos(phase) - 0.55, 0.0, 1.0), 0.10)


def _side(finding: Finding) -> tuple[str, ...]:
    return ("right", "left") if "bilateral" in finding.locations else (finding.locations[-1],)


def _in_lobe(finding: Finding, rng: np.random.Generator, spread: float) -> tuple[float, float]:
    x, y = LOBE_CENTRES[finding.locations[0]]
    return x + rng.uniform(-spread, spread), y + rng.uniform(-spread, spread)


def _cardiomegaly(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    scale = chest.heart_scale  # drawn with the chest; only its outline is wanted here
    return [chest.ellipse(0.10 * scale, 0.26, 0.25 * scale, 0.23 * scale**0.5)]


def _aortic_elongation(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    mask = chest.ellipse(0.19, -0.36, 0.15, rng.uniform(0.15, 0.19), edge=0.2)
    chest.blend(mask, 0.66)
    return [mask]


def _scoliosis(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    centre = chest.spine_bend * np.sin(np.pi * (chest.y + 0.7) / 1.4)
    mask = chest.line(chest.x - centre, 0.13) * (np.abs(chest.y) < 0.7)
    chest.add(mask, 0.16)  # a rotated spine shows denser
    return [mask]


def _pacemaker(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    sign = SIGN[finding.locations[-1]]
    cx, cy = sign * rng.uniform(0.52, 0.58), rng.uniform(-0.66, -0.60)
    can = np.maximum(np.abs(chest.x - cx) / 0.13, np.abs(chest.y - cy) / 0.10)
    mask = np.clip((1.0 - can) / 0.12 + 0.5, 0.0, 1.0)
    chest.blend(mask, 1.0)
    along = np.clip((chest.y - cy) / (0.30 - cy), 0.0, 1.0)
    lead = chest.line(chest.x - (cx + (0.12 - cx) * np.sqrt(along)), 0.025) * (along > 0) * (along < 1)
    chest.blend(lead, 0.9)
    return [np.maximum(mask, lead)]


def _sternotomy(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    wires = [
        chest.ellipse(0.0, y + rng.uniform(-0.01, 0.01), 0.045, 0.03, edge=0.6) for y in np.arange(-0.5, 0.4, 0.17)
    ]
    mask = np.max(wires, axis=0)
    chest.blend(mask, 0.98)
    return [mask]


def _granuloma(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    radius = rng.uniform(0.040, 0.052)
    mask = chest.ellipse(*_in_lobe(finding, rng, 0.08), radius, radius, edge=0.4)
    chest.blend(mask, 0.97)
    return [mask]


def _effusion(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    masks = []
    for side in _side(finding):
        sign = SIGN[side]
        # The fluid's upper border is a meniscus: it climbs along the lateral wall.
        level = rng.uniform(0.12, 0.22) - 0.55 * np.clip(sign * chest.x - 0.35, 0.0, None)
        mask = chest.ellipse(sign * 0.44, -0.06, *chest.lung_radii[side], edge=0.1) * chest.below(level, edge=0.08)
        chest.blend(mask, 0.68)
        masks.append(mask)
    return masks


def _pneumothorax(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    side = finding.locations[-1]
    sign, (rx, ry) = SIGN[side], chest.lung_radii[side]
    inner = chest.ellipse(sign * 0.34, rng.uniform(0.10, 0.16), rx * 0.80, ry * 0.85, edge=0.06)
    mask = chest.lungs[side] * (1.0 - inner) * (1.0 - chest.below(0.10)) * (sign * chest.x > 0.12)
    chest.blend(mask, 0.0)
    border = np.clip(1.0 - np.abs(inner - 0.5) / 0.5, 0.0, 1.0) * chest.lungs[side] * (1.0 - chest.below(0.10))
    chest.add(border, 0.25)  # the visceral pleura
    return [mask]


def _nodule(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    radius = rng.uniform(0.085, 0.105)
    mask = chest.ellipse(*_in_lobe(finding, rng, 0.06), radius, radius, edge=0.25)
    chest.blend(mask, 0.55)
    return [mask]


def _consolidation(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    x, y = _in_lobe(finding, rng, 0.04)
    mask = chest.ellipse(x, y, rng.uniform(0.20, 0.24), rng.uniform(0.18, 0.22), edge=0.6)
    side = "left" if x > 0 else "right"
    mask = mask * (0.25 + 0.75 * chest.lungs[side])
    chest.blend(mask * 0.85, 0.52)
    return [mask]


def _interstitial(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    phase = rng.uniform(0, 2 * np.pi, size=2)
    net = np.clip(np.sin(chest.x * 42 + phase[0]) * np.sin(chest.y * 42 + phase[1]), 0.0, 1.0)
    low = chest.below(0.02, edge=0.12) if finding.locations[0] == "basal bilateral" else 1.0
    masks = [chest.lungs[side] * low for side in SIGN]
    chest.add((masks[0] + masks[1]) * net, 0.42)
    return masks


def _hemidiaphragm(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    side = finding.locations[-1]  # raised with the chest; only its outline is wanted here
    sign, dome = SIGN[side], chest.dome[side] - 0.30
    return [chest.ellipse(sign * 0.40, dome + 0.18, chest.lung_radii[side][0], 0.20)]


def _laminar(chest: Chest, finding: Finding, rng: np.random.Generator) -> list[np.ndarray]:
    sign, y = SIGN[finding.locations[-1]], rng.uniform(0.22, 0.28)
    slope = rng.uniform(-0.15, 0.15)
    extent = np.abs(chest.x - sign * 0.45) < 0.19
    mask = chest.line(chest.y - y - slope * (chest.x - sign * 0.45), 0.055) * extent
    chest.add(mask, 0.42)
    return [mask]


# In drawing order: fluid and air first, then what shows through them, then metal.
PAINTERS: dict[str, Painter] = {
    "interstitial pattern": _interstitial,
    "cardiomegaly": _cardiomegaly,
    "hemidiaphragm elevation": _hemidiaphragm,
    "pleural effusion": _effusion,
    "pneumothorax": _pneumothorax,
    "consolidation": _consolidation,
    "aortic elongation": _aortic_elongation,
    "scoliosis": _scoliosis,
    "nodule": _nodule,
    "laminar atelectasis": _laminar,
    "calcified granuloma": _granuloma,
    "sternotomy": _sternotomy,
    "pacemaker": _pacemaker,
}


def draw(
    findings: Sequence[Finding],
    *,
    size: int,
    acquisition: Acquisition,
    anatomy: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[np.ndarray, tuple[Box, ...]]:
    """Draws one study.

    Args:
        findings: abnormal findings, each at most once.
        size: height and width in pixels.
        acquisition: ranges of the image's acquisition.
        anatomy: source of what is the patient's own and the same in every study.
        rng: source of everything else.

    Returns:
        The image, uint8 [size, size], and a box for every place where a finding shows.
    """
    x, y = _coordinates(size, acquisition, rng)
    chest = Chest(x, y, frozenset(f.name for f in findings), anatomy)
    chest.build(frozenset(f.locations[-1] for f in findings if f.name == "hemidiaphragm elevation"))
    boxes: list[Box] = []
    for finding in sorted(findings, key=lambda f: list(PAINTERS).index(f.name)):
        for mask in PAINTERS[finding.name](chest, finding, rng):
            boxes.extend(_box(finding.name, mask))
    return _expose(chest.image, acquisition, rng), tuple(boxes)


def _coordinates(size: int, acquisition: Acquisition, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    angle = np.deg2rad(rng.uniform(-acquisition.rotation, acquisition.rotation))
    scale = rng.uniform(*acquisition.zoom)
    dx, dy = rng.uniform(-acquisition.shift, acquisition.shift, size=2)
    cos, sin = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
    column, row = axis[None, :] - np.float32(dx), axis[:, None] - np.float32(dy)
    return cos * column + sin * row, cos * row - sin * column


def _expose(image: np.ndarray, acquisition: Acquisition, rng: np.random.Generator) -> np.ndarray:
    contrast, noise = rng.uniform(*acquisition.contrast), rng.uniform(*acquisition.noise)
    exposed = (image - 0.5) * contrast + 0.5
    exposed += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    return (np.clip(exposed, 0.0, 1.0) * 255).astype(np.uint8)


def _box(name: str, mask: np.ndarray) -> list[Box]:
    """The smallest box around a mask; none when acquisition moved the finding out of the image."""
    rows, columns = np.flatnonzero((mask > 0.5).any(axis=1)), np.flatnonzero((mask > 0.5).any(axis=0))
    if not rows.size or not columns.size:
        return []
    return [Box(name, int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)]

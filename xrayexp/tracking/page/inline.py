"""Small drawings inside of tables: an interval beside zero, two values on one scale, the sign of a run."""

from __future__ import annotations

import math
import re
from html import escape

WIDTH, HEIGHT = 200, 22
EDGE = 8  # pixels left and right of the scale
RUN_COLOURS = ("#24639b", "#bf5518", "#3a7d44", "#8b4a9c", "#8a6d13", "#b93a68", "#2f7f86", "#666c74")
RUN_COLOURS_IN_THE_DARK = ("#74b3e6", "#f09a5f", "#7fcb8c", "#cf93df", "#d9b850", "#ee85ab", "#6cc5cd", "#aab1b9")

_LIGHT = "".join(f"--run{i}: {colour};" for i, colour in enumerate(RUN_COLOURS))
_DARK = "".join(f"--run{i}: {colour};" for i, colour in enumerate(RUN_COLOURS_IN_THE_DARK))
STYLE = f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
svg.mark {{ display: block; width: {WIDTH}px; max-width: none; height: {HEIGHT}px; }}
svg.mark .zero, svg.mark .scale {{ stroke: var(--axis); }}
svg.mark .interval {{ stroke: currentColor; stroke-width: 2; }}
svg.mark .value {{ fill: currentColor; }}
svg.mark .reference {{ fill: var(--card); stroke: var(--quiet); stroke-width: 2; }}
svg.mark text {{ font-size: 11px; fill: var(--quiet); font-weight: 400; }}
.better {{ color: var(--green); }} .worse {{ color: var(--red); }} .unclear, .untested {{ color: var(--quiet); }}
.run {{ overflow-wrap: break-word; }}
.run i {{ display: inline-block; width: 10px; height: 10px; border-radius: 50%; border: 2px solid; margin-right: 6px; }}
.run.other i {{ background: currentColor; }}
.run b {{ color: var(--ink); font-weight: 600; }}
"""
WORDS = {"better": "\u25b2 better", "worse": "\u25bc worse", "unclear": "unclear", "untested": "not tested"}


def colour(index: int) -> str:
    """The CSS variable of a run; after eight runs they come again."""
    return f"--run{index % len(RUN_COLOURS)}"


def sign(name: str, index: int) -> str:
    """A run's name with its dot: hollow for the reference."""
    kind = "run" if index == 0 else "run other"
    broken = re.sub(r"([_/.-])", r"\1<wbr>", escape(name))  # names of folders have no blanks to break lines at
    return f'<span class="{kind}" style="color:var({colour(index)})"><i></i><b>{broken}</b></span>'


def interval(value: float, low: float, high: float, limit: float, verdict: str) -> str:
    """A difference on a scale from -limit to limit: a square, and its interval if there is one."""
    if math.isnan(value):
        return ""
    words = f"difference {value:+.3f}"
    line = ""
    if not math.isnan(low):
        words += f", interval {low:+.3f} to {high:+.3f}"
        ends = (_x(end / limit) for end in (low, high))
        line = '<line class="interval" x1="{:.1f}" x2="{:.1f}" y1="11" y2="11"/>'.format(*ends)
    square = f'<rect class="value" x="{_x(value / limit) - 3.5:.1f}" y="7.5" width="7" height="7"/>'
    zero = f'<line class="zero" x1="{_x(0):.1f}" x2="{_x(0):.1f}" y1="0" y2="{HEIGHT}"/>'
    return _svg(words, f"{zero}{line}{square}", verdict)


def interval_axis(limit: float) -> str:
    """The scale of `interval`, for the head of its column."""
    return _axis([(-1, f"{-limit:g}"), (0, "0"), (1, f"+{limit:g}")])


def dumbbell(reference: float, other: float, verdict: str) -> str:
    """Two values from 0 to 1: the reference hollow, the other full."""
    places = [_x(2 * value - 1) for value in (reference, other)]
    scale = f'<line class="scale" x1="{EDGE}" x2="{WIDTH - EDGE}" y1="11" y2="11"/>'
    bar = '<line class="interval" x1="{:.1f}" x2="{:.1f}" y1="11" y2="11"/>'.format(*places)
    dots = (
        f'<circle class="reference" cx="{places[0]:.1f}" cy="11" r="4.5"/>'
        f'<circle class="value" cx="{places[1]:.1f}" cy="11" r="4.5"/>'
    )
    return _svg(f"{reference:.3f} in the reference, {other:.3f} in the run", scale + bar + dots, verdict)


def dumbbell_axis() -> str:
    """The scale of `dumbbell`."""
    return _axis([(-1, "0"), (0, "0.5"), (1, "1")])


def nice_limit(largest: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no less."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next((step * power for step in (1, 2, 5) if step * power >= largest * (1 - 1e-9)), 10 * power)


def _x(place: float) -> float:
    """Pixels from the left for a place between -1 and 1."""
    return WIDTH / 2 + place * (WIDTH / 2 - EDGE)


def _axis(ticks: list[tuple[float, str]]) -> str:
    anchors = {-1: "start", 0: "middle", 1: "end"}
    places = {-1: 0.0, 0: WIDTH / 2, 1: float(WIDTH)}
    text = "".join(
        f'<text x="{places[int(place)]:.1f}" y="18" text-anchor="{anchors[int(place)]}">{words}</text>'
        for place, words in ticks
    )
    return _svg("scale from " + " over ".join(words for _, words in ticks), text, "")


def _svg(words: str, content: str, verdict: str) -> str:
    box = f'class="mark {verdict}" role="img" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f"<svg {box}><title>{escape(words)}</title>{content}</svg>"

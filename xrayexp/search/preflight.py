"""Looks at the corners of a search space before any trial: what cannot be composed or used is named at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omegaconf import DictConfig, OmegaConf

from xrayexp.errors import ConfigError, RequirementError, UserError
from xrayexp.messages import explain
from xrayexp.search.space import Assignment, Dimension, Space

Composer = Callable[[Sequence[str]], DictConfig]


def check_space(space: Space, place: str, compose: Composer, check: Callable[[DictConfig], object]) -> None:
    """Composes and checks the extremes of every dimension, in every branch.

    Args:
        space: to be searched.
        place: where it stands, for messages.
        compose: makes a trial's config of overrides.
        check: raises when a config cannot be used.

    Raises:
        ConfigError: with everything that is wrong, each with file and key.
        RequirementError: something that a trial needs is not there.
    """
    problems: dict[str, str] = {}
    for corner in space.corners():
        try:
            cfg = compose(to_overrides(corner))
            wrong = _broken_whole_numbers(space, corner, compose)
            if not wrong:
                check(cfg)
        except RequirementError:
            raise  # of the machine, not of the space: it would be said again at every corner
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            wrong = [_of(corner, message, error)]
        for problem in wrong:
            problems.setdefault(problem, f"{place}.{problem}")
    if problems:
        raise ConfigError(list(problems.values()))


def to_overrides(assignment: Assignment) -> list[str]:
    """For a command line."""
    return [f"{key}={text}" for key, text in assignment.overrides.items()]


def _of(corner: Assignment, message: str, error: Exception) -> str:
    """The message, behind the key that it speaks of."""
    lines = [line.strip() for line in message.splitlines()]
    words = " ".join(error.problems) if isinstance(error, ConfigError) else " ".join(lines)
    named = sorted((key for key in corner.overrides if key in words), key=len)
    name = named[-1] if named else " ".join(to_overrides(corner))
    return f"{name}: {words if isinstance(error, UserError) else lines[0]}"


def _broken_whole_numbers(space: Space, corner: Assignment, compose: Composer) -> list[str]:
    """Intervals of any numbers where the config has a whole one: interval(2, 64) draws 17.3, also of whole ends."""
    drawn = [one for one in _in_play(space, corner) if one.options is None and not one.is_whole]
    if not drawn:
        return []
    keys = {one.key for one in drawn}
    before = compose([f"{key}={text}" for key, text in corner.overrides.items() if key not in keys])
    found = []
    for one in drawn:
        value = OmegaConf.select(before, one.key)
        if isinstance(value, int) and not isinstance(value, bool):
            ends = f"{one.low:.12g}, {one.high:.12g}"
            found.append(f"{one.key}: is a whole number ({value}), interval draws any: write int(interval({ends}))")
    return found


def _in_play(space: Space, corner: Assignment) -> list[Dimension]:
    return [one for one in space.all_dimensions() if one.name in corner.params]

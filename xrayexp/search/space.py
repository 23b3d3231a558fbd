"""What is searched: a mapping of config keys to Hydra's own sweep syntax, in which a choice may own further keys.

    adapter:                                # a choice; each branch owns its keys
      lora: {adapter.r: "choice(8, 16, 32)"}
      delora: {adapter.r: "int(interval(4, 64))", optimizer.lr: "tag(log, interval(1e-3, 1e-1))"}
    seed: 0, 1, 2

A key of a branch has a name of its own in the study, `adapter=delora/optimizer.lr`: Optuna refuses one name with two
ranges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Transformer,
    ValueType,
)
from hydra.errors import HydraException

from xrayexp.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import Trial

Value: TypeAlias = bool | int | float | str | None

_TAGS = {"log"}


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one trial sets.

    Attributes:
        overrides: texts for Hydra, by config key.
        values: by config key.
        params: values by name in the study.
    """

    overrides: Mapping[str, str]
    values: Mapping[str, Value]
    params: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One config key with the values that it may take.

    Attributes:
        key: of the config, such as "adapter.r".
        name: in the study.
        low: the smallest value, of an interval.
        high: the largest, itself among them.
        step: between values; None for all of an interval.
        log: whether small values lie as dense as large ones.
        options: the values of a choice, with their texts for Hydra; empty for an interval.
        branches: by option: what is searched where it is taken; empty for a plain choice.
    """

    key: str
    name: str
    low: float | int | None = None
    high: float | int | None = None
    step: float | int | None = None
    log: bool = False
    options: Mapping[Value, str] | None = None
    branches: Mapping[Value, Space] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of an interval's values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def extremes(self) -> tuple[Value, ...]:
        """The values between which all others lie; of a choice all of them."""
        return tuple(self.options) if self.options is not None else (self.low, self.high)

    def text(self, value: Value) -> str:
        """A value for Hydra's command line."""
        if self.options is not None:
            return self.options[value]
        # Steps of 0.1 add up to 0.30000000000000004.
        return repr(float(f"{value:.12g}")) if self.step is not None and isinstance(value, float) else repr(value)

    def suggest(self, trial: Trial) -> Value:
        """Draws a value."""
        if self.options is not None:
            return trial.suggest_categorical(self.name, tuple(self.options))
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.name, self.low, self.high, log=self.log, step=step)
        assert self.low is not None
        assert self.high is not None
        return trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True, slots=True)
class Space:
    """Dimensions, and values that are the same in every trial that comes by.

    Attributes:
        dimensions: in the order of the file.
        fixed: texts for Hydra, by config key.
    """

    dimensions: tuple[Dimension, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)

    def suggest(self, trial: Trial) -> Assignment:
        """Draws one value for every dimension that comes into play."""
        return self._assigned(lambda dimension: dimension.suggest(trial))

    def assign(self, params: Mapping[str, Value]) -> Assignment:
        """What a trial with these values, by name in the study, set."""
        return self._assigned(lambda dimension: params[dimension.name])

    def _assigned(self, value_of: Callable[[Dimension], Value]) -> Assignment:
        overrides: dict[str, str] = dict(self.fixed)
        values: dict[str, Value] = dict(self.fixed)
        params: dict[str, Value] = {}
        for dimension in self.dimensions:
            value = value_of(dimension)
            overrides[dimension.key] = dimension.text(value)
            values[dimension.key] = params[dimension.name] = value
            if dimension.branches is not None:
                below = dimension.branches[value]._assigned(value_of)
                overrides |= below.overrides
                values |= below.values
                params |= below.params
        return Assignment(overrides, values, params)

    def corners(self) -> Iterator[Assignment]:
        """Few assignments that show every extreme value of every dimension in every branch."""
        plain = [dimension for dimension in self.dimensions if dimension.branches is None]
        choices = [dimension for dimension in self.dimensions if dimension.branches is not None]
        most = max((len(dimension.extremes()) for dimension in plain), default=1)
        for turn in range(most):
            here = {one.name: one.extremes()[min(turn, len(one.extremes()) - 1)] for one in plain}
            yield from self._with_branches(here, choices)

    def _with_branches(self, params: Mapping[str, Value], choices: Sequence[Dimension]) -> Iterator[Assignment]:
        """One choice after the other goes through its branches, the others stay at their first."""
        first = {}
        for choice in choices:
            assert choice.branches is not None
            option, below = next(iter(choice.branches.items()))
            first[choice.name] = {choice.name: option, **next(below.corners()).params}
        if not choices:
            yield self.assign(params)
        for choice in choices:
            assert choice.branches is not None
            others = {key: value for name, some in first.items() if name != choice.name for key, value in some.items()}
            for option, below in choice.branches.items():
                for corner in below.corners():
                    yield self.assign({**params, **others, choice.name: option, **corner.params})

    def all_dimensions(self) -> Iterator[Dimension]:
        """Those of branches, too."""
        for dimension in self.dimensions:
            yield dimension
            for below in (dimension.branches or {}).values():
                yield from below.all_dimensions()

    def keys(self) -> set[str]:
        """Every config key that a trial may set."""
        below = [space.keys() for one in self.dimensions for space in (one.branches or {}).values()]
        return {one.key for one in self.dimensions} | set(self.fixed) | set().union(*below)

    def without(self, keys: set[str]) -> Space:
        """The space without these keys, wherever they stand; a choice that goes leaves none of its branches."""
        kept = tuple(
            replace(one, branches={option: below.without(keys) for option, below in one.branches.items()})
            if one.branches is not None
            else one
            for one in self.dimensions
            if one.key not in keys
        )
        return Space(kept, {key: text for key, text in self.fixed.items() if key not in keys})

    def narrowed(self, key: str, option: str) -> Space:
        """The space where a choice with branches has been made: the branch's dimensions take its place."""
        kept: list[Dimension] = []
        fixed = dict(self.fixed)
        for one in self.dimensions:
            if one.key != key:
                branches = one.branches and {name: below.narrowed(key, option) for name, below in one.branches.items()}
                kept.append(replace(one, branches=branches))
            elif one.branches is not None and (below := _branch(one.branches, option)) is not None:
                kept += below.dimensions
                fixed |= below.fixed
        return Space(tuple(kept), fixed)


def _branch(branches: Mapping[Value, Space], option: str) -> Space | None:
    return next((below for name, below in branches.items() if str(name) == option), None)


def parse_space(given: Mapping[str, Any], place: str) -> Space:
    """Reads `search.space`.

    Args:
        given: plain values: by config key a text in Hydra's sweep syntax, a mapping of options to their own keys, or
            a value that is the same in all trials.
        place: where it stands, for messages: the file and the key.

    Raises:
        ConfigError: with everything that is wrong in it, each with file and key.
    """
    problems: list[str] = []
    space = _parse(given, place, "", problems)
    _require_one_place_each(space, place, problems)
    if problems:
        raise ConfigError(problems)
    return space


def from_arguments(space: Space, arguments: Sequence[Override]) -> Space:
    """The space as the command line changes it: a sweep takes the key's place, a plain value takes the key out of it.

    Args:
        space: of the config.
        arguments: parsed overrides.

    Raises:
        ConfigError: a sweep of the command line has no sense.
    """
    problems: list[str] = []
    for override in arguments:
        key = override.get_key_element()
        bare = key.lstrip("+~")
        if override.is_sweep_override():
            dimension = _dimension(key, key, override, f"command line: {key}", problems)
            space = space.without({bare, key})
            if dimension is not None:
                space = Space((*space.dimensions, dimension), space.fixed)
        else:
            space = space.narrowed(bare, override.get_value_element_as_str()).without({bare})
    if problems:
        raise ConfigError(problems)
    return space


def _parse(given: Mapping[str, Any], place: str, prefix: str, problems: list[str]) -> Space:
    dimensions: list[Dimension] = []
    fixed: dict[str, str] = {}
    for raw, value in given.items():
        key = str(raw)
        here = f"{place}.{prefix}{key}"
        if isinstance(value, Mapping):
            if not value:
                problems.append(f"{here}: a choice needs at least one option")
                continue
            branches: dict[Value, Space] = {}
            for option, below in value.items():
                name = _text(option)
                if name in branches:
                    problems.append(f"{here}.{name}: the option stands there twice")
                if below is not None and not isinstance(below, Mapping):
                    problems.append(f"{here}.{name}: an option owns a mapping of keys, {{}} for none, not {below!r}")
                    continue
                branches[name] = _parse(below or {}, place, f"{prefix}{key}={name}/", problems)
            options = {option: str(option) for option in branches}
            dimensions.append(Dimension(key, f"{prefix}{key}", options=options, branches=branches))
        elif (override := _override(key, value, here, problems)) is not None:
            if override.is_sweep_override():
                if (dimension := _dimension(key, f"{prefix}{key}", override, here, problems)) is not None:
                    dimensions.append(dimension)
            else:
                fixed[key] = override.get_value_element_as_str()
    return Space(tuple(dimensions), fixed)


def _override(key: str, value: Any, here: str, problems: list[str]) -> Override | None:
    text = _text(value)
    try:
        return OverridesParser.create().parse_override(f"{key}={text}")
    except HydraException as error:
        words = str(error).partition("\n")[2].partition("\n")[0] or str(error)
        advice = "write choice(8, 16), int(interval(2, 64)) or the like"
        if (inner := re.fullmatch(r"choice\((.*\bnull\b.*)\)", text)) is not None:
            advice = f"write {inner[1]} without choice(), which takes no null"
        problems.append(f"{here}: cannot read '{text}' ({words}); {advice}")
        return None


def _text(value: Any) -> str:
    """A value of YAML in Hydra's words."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value).strip()


def _dimension(key: str, name: str, override: Override, here: str, problems: list[str]) -> Dimension | None:
    sweep = override.value()
    try:
        match sweep:
            case ChoiceSweep():
                return _choice(key, name, override, sweep)
            case RangeSweep():
                return _range(key, name, sweep)
            case IntervalSweep():
                return _interval(key, name, sweep)
            case _:
                raise ValueError(f"{override.value_type.name.lower()} cannot be searched: use choice, range or interval"
                                 if override.value_type else "cannot be searched")  # fmt: skip
    except ValueError as error:
        problems.append(f"{here}: {error}")
        return None


def _choice(key: str, name: str, override: Override, sweep: ChoiceSweep) -> Dimension:
    if override.value_type not in (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP):
        raise ValueError("cannot be searched: use choice, range or interval")
    _require_known_tags(sweep.tags)
    _require_no_shuffle(sweep.shuffle)
    options: dict[Value, str] = {}
    texts = override.sweep_iterator(transformer=Transformer.encode)
    plain = override.sweep_iterator(transformer=Transformer.identity)
    for value, text in zip(plain, texts, strict=True):
        simple: Value = value if value is None or isinstance(value, bool | int | float) else str(text)
        if simple in options:
            raise ValueError(f"{text} stands there twice")
        options[simple] = str(text)
    return Dimension(key, name, options=options)


def _range(key: str, name: str, sweep: RangeSweep) -> Dimension:
    _require_known_tags(sweep.tags)
    _require_no_shuffle(sweep.shuffle)
    if sweep.start is None or sweep.stop is None:
        raise ValueError("range needs a start and a stop")
    if "log" in sweep.tags:
        raise ValueError("a range has equal steps: tag(log, ...) goes with interval")
    values = [*sweep.range()]  # without the stop, as in Hydra; Optuna's upper end is among the values
    if not values:
        raise ValueError(f"the range from {sweep.start} to {sweep.stop} is empty")
    if len(values) == 1:
        return Dimension(key, name, options={values[0]: repr(values[0])})
    low, high = (one if isinstance(one, int) else float(f"{one:.12g}") for one in (min(values), max(values)))
    return Dimension(key, name, low, high, abs(sweep.step))


def _interval(key: str, name: str, sweep: IntervalSweep) -> Dimension:
    _require_known_tags(sweep.tags)
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None
    assert high is not None
    if low >= high:
        raise ValueError(f"the interval from {low:g} to {high:g} is empty: the smaller end comes first")
    if log and low <= 0:
        raise ValueError(f"an interval with tag(log, ...) begins above 0, not at {low:g}")
    return Dimension(key, name, low, high, log=log)


def _require_known_tags(tags: set[str]) -> None:
    if unknown := sorted(tags - _TAGS):
        raise ValueError(f"unknown tag {', '.join(unknown)}; there is log")


def _require_no_shuffle(shuffle: bool) -> None:
    if shuffle:
        raise ValueError("a search draws at random by itself: leave shuffle out")


def _require_one_place_each(space: Space, place: str, problems: list[str]) -> None:
    """A key beside a choice and in one of its branches, or in branches of two choices, would be set twice."""
    beside = {one.key for one in space.dimensions} | set(space.fixed)
    owned: dict[str, str] = {}  # by key: the choice before, whose branches have it
    for choice in space.dimensions:
        for option, below in (choice.branches or {}).items():
            here = f"{place}.{choice.key}.{option}"
            for key in sorted(below.keys()):
                if key in beside:
                    problems.append(f"{here}.{key}: stands beside {choice.key} as well; keep one of them")
                elif key in owned:
                    problems.append(f"{here}.{key}: belongs to an option of {owned[key]} as well; keep one of them")
            _require_one_place_each(below, place, problems)
        for below in (choice.branches or {}).values():
            owned |= dict.fromkeys(below.keys(), choice.key)

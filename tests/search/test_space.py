"""Search spaces: what is drawn lies where it should, Hydra reads it back, and mistakes are named with file and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayexp.errors import ConfigError
from xrayexp.search.space import Assignment, Dimension, Space, Value, from_arguments, parse_space

PLACE = "conf/search/mine.yaml: search.space"

whole = st.integers(-1000, 1000)
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: float(f"{value:.6g}"))
positive = st.floats(1e-8, 1e3).map(lambda value: float(f"{value:.6g}"))
words = st.text("abcdefgxyz", min_size=1, max_size=6).filter(lambda word: word not in ("nan", "inf"))


def pairs(one: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.tuples(one, one).filter(lambda ends: ends[0] < ends[1])


@st.composite
def ranges(draw: st.DrawFn) -> str:
    start, step, count = draw(whole), draw(st.sampled_from([1, 2, 5, 0.1, 0.25, -1, -0.1])), draw(st.integers(1, 9))
    return f"range({start}, {start + count * step:.6g}, {step})"


choices = st.one_of(
    st.lists(whole, min_size=1, max_size=5, unique=True).map(lambda found: f"choice({', '.join(map(str, found))})"),
    st.lists(words, min_size=2, max_size=5, unique=True).map(", ".join),
    st.just("8, null, true, 'a, b', 1e-3, [1, 2], {a: 1}"),
)
texts = st.one_of(
    choices,
    ranges(),
    pairs(numbers).map(lambda ends: f"interval({ends[0]!r}, {ends[1]!r})"),
    pairs(positive).map(lambda ends: f"tag(log, interval({ends[0]!r}, {ends[1]!r}))"),
    pairs(whole).map(lambda ends: f"int(interval({ends[0]}, {ends[1]}))"),
    pairs(st.integers(1, 500)).map(lambda ends: f"tag(log, int(interval({ends[0]}, {ends[1]})))"),
)
constants = st.one_of(whole, words, st.none(), st.booleans())


@st.composite
def yaml_spaces(draw: st.DrawFn, depth: int = 2, keys: Sequence[str] = tuple("abcdef")) -> dict[str, Any]:
    """As YAML would hold them; the keys of a branch differ from those beside its choice."""
    own, below = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    found: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(own), min_size=1, unique=True)):
        # One choice with branches is enough: those of another would need keys of their own.
        if depth > 0 and below and not any(isinstance(value, Mapping) for value in found.values()):
            options = draw(st.lists(words, min_size=1, max_size=3, unique=True))
            found[key] = {one: draw(st.one_of(st.none(), yaml_spaces(depth=depth - 1, keys=below))) for one in options}
        else:
            found[key] = draw(texts | constants)
    return found


def drawn(space: Space, seed: int) -> Assignment:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return space.suggest(study.ask())


def in_play(space: Space, params: Mapping[str, Any]) -> list[Dimension]:
    return [one for one in space.all_dimensions() if one.name in params]


def bounds(one: Dimension) -> tuple[float, float]:
    assert one.low is not None
    assert one.high is not None
    return one.low, one.high


def read(text: str) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, QuotedString):
            return value.text
        return [plain(one) for one in value] if isinstance(value, list) else value

    return plain(OverridesParser.create().parse_override(f"x={text}").value())


@settings(max_examples=60)
@given(yaml_spaces(), st.integers(0, 2**32 - 1))
def test_what_is_drawn_lies_in_its_range_and_hydra_reads_it_back(given: dict[str, Any], seed: int) -> None:
    space = parse_space(given, PLACE)
    assignment = drawn(space, seed)
    assert assignment.overrides.keys() == assignment.values.keys() <= space.keys()
    for one in in_play(space, assignment.params):
        value: Any = assignment.params[one.name]
        text = assignment.overrides[one.key]
        if one.options is not None:
            assert one.options[value] == text
            assert value == read(text) or str(value) == text
        else:
            low, high = bounds(one)
            assert low <= value <= high
            assert type(read(text)) is type(value)
            # Steps of 0.1 add up to 0.30000000000000004, of which 0.3 is what is meant; all else is exact.
            assert read(text) == (value if one.step is None else pytest.approx(value, rel=1e-9))
    assert space.assign(assignment.params) == assignment


@settings(max_examples=60)
@given(yaml_spaces())
def test_corners_show_every_extreme_of_every_branch(given: dict[str, Any]) -> None:
    space = parse_space(given, PLACE)
    corners = list(space.corners())
    names = [one.name for one in space.all_dimensions()]
    assert len(names) == len(set(names))
    for one in space.all_dimensions():
        shown = [corner.params[one.name] for corner in corners if one.name in corner.params]
        assert set(one.extremes()) <= set(shown), one.name
    assert all(corner.overrides.keys() <= space.keys() for corner in corners)


@settings(max_examples=30)
@given(yaml_spaces(), st.data())
def test_a_space_without_keys_has_none_of_them_anywhere(given: dict[str, Any], data: st.DataObject) -> None:
    space = parse_space(given, PLACE)
    gone = data.draw(st.sets(st.sampled_from(sorted(space.keys()))))
    assert not space.without(gone).keys() & gone
    assert space.without(gone).without(gone) == space.without(gone)


@given(st.integers(-20, 20), st.integers(1, 30), st.sampled_from([1, 2, 3, -1, -3, 0.1, -0.1, 0.3]))
@settings(max_examples=60)
def test_a_range_is_hydras(start: int, count: int, step: float) -> None:
    """Every value that Hydra's own sweeper would run, and no other."""
    stop = float(f"{start + count * step:.12g}")
    text = f"range({start}, {int(stop) if isinstance(step, int) else stop}, {step})"
    override = OverridesParser.create().parse_override(f"x={text}")
    hydras = sorted(float(str(value)) for value in override.sweep_iterator())
    [one] = parse_space({"x": text}, PLACE).dimensions
    if one.options is not None:
        assert [float(text) for text in one.options.values()] == hydras
        return
    low, high = bounds(one)
    every = one.step
    assert every is not None
    found = [float(one.text(low + turn * every)) for turn in range(round((high - low) / every) + 1)]
    assert found == pytest.approx(hydras, abs=1e-9)
    # Of 0.30000000000000004 to 1 in steps of 0.1 Optuna would move the end.
    assert float(f"{low:.9g}") == low


SPACE = {
    "adapter": {
        "lora": {"adapter.alpha": "8, 16"},
        "delora": {"optimizer.lr": "tag(log, interval(1e-3, 1e-1))", "adapter.dropout": 0.1},
        "none": None,
    },
    "adapter.r": "choice(4, 8)   ",  # trailing blanks do no harm
    "seed": 3,
}


def changed(*arguments: str) -> Space:
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    return from_arguments(parse_space(SPACE, PLACE), parsed)


def names(space: Space) -> set[str]:
    return {one.name for one in space.all_dimensions()}


def test_a_branch_has_names_of_its_own_and_brings_its_keys() -> None:
    space = parse_space(SPACE, PLACE)
    assert names(space) == {"adapter", "adapter=lora/adapter.alpha", "adapter=delora/optimizer.lr", "adapter.r"}
    chosen: dict[str, Value] = {"adapter": "delora", "adapter=delora/optimizer.lr": 0.01, "adapter.r": 8}
    assert dict(space.assign(chosen).overrides) == {
        "adapter": "delora", "optimizer.lr": "0.01", "adapter.dropout": "0.1", "adapter.r": "8", "seed": "3",
    }  # fmt: skip
    assert "optimizer.lr" not in space.assign({"adapter": "none", "adapter.r": 4}).overrides


def test_the_command_line_wins_over_the_file() -> None:
    assert names(changed("adapter.r=8")) == names(parse_space(SPACE, PLACE)) - {"adapter.r"}
    assert names(changed("optimizer.lr=1e-3")) == {"adapter", "adapter=lora/adapter.alpha", "adapter.r"}
    assert changed("seed=1").fixed == {}  # it stands among the fixed overrides of all trials
    # A choice that has been made leaves the keys of its branch.
    fixed = changed("adapter=delora")
    assert names(fixed) == {"adapter=delora/optimizer.lr", "adapter.r"}
    assert dict(fixed.fixed) == {"seed": "3", "adapter.dropout": "0.1"}
    assert names(changed("adapter=vera")) == {"adapter.r"}
    # A sweep takes the place of what the file says, in a branch as well.
    [rank] = [one for one in changed("adapter.r=16,32,64").dimensions if one.key == "adapter.r"]
    assert list(rank.options or {}) == [16, 32, 64]
    assert names(changed("optimizer.lr=interval(0.1, 0.2)")) == {
        "adapter", "adapter=lora/adapter.alpha", "adapter.r", "optimizer.lr",
    }  # fmt: skip
    [added] = [one for one in changed("++new.key=1,2").dimensions if one.key == "++new.key"]
    assert list(added.options or {}) == [1, 2]


def test_a_choice_within_a_choice_can_be_fixed() -> None:
    nested = {"a": {"x": {"b": {"p": {"c": "1, 2"}, "q": {"d": "3, 4"}}}, "y": None}}
    space = from_arguments(parse_space(nested, PLACE), OverridesParser.create().parse_overrides(["b=p"]))
    assert names(space) == {"a", "a=x/b=p/c"}


def test_yaml_words_are_hydras_words() -> None:
    space = parse_space({"a": {None: {}, True: {}, 8: {}}, "b": False, "c": None, "d": [1, 2]}, PLACE)
    assert [corner.overrides["a"] for corner in space.corners()] == ["null", "true", "8"]
    assert dict(space.fixed) == {"b": "False", "c": "null", "d": "[1,2]"}


BAD = {
    "interval(3, 1)": "the interval from 3 to 1 is empty",
    "interval(2, 2)": "the interval from 2 to 2 is empty",
    "int(interval(2.2, 2.8))": "is empty",
    "tag(log, interval(0, 1))": "begins above 0, not at 0",
    "tag(log, int(interval(0.5, 8)))": "begins above 0, not at 0",
    "tag(lg, interval(1, 2))": "unknown tag lg; there is log",
    "tag(log, range(1, 9))": "a range has equal steps",
    "range(3, 3)": "the range from 3 to 3 is empty",
    "glob(*)": "use choice, range or interval",
    "choice(8, 16, 8)": "8 stands there twice",
    "1, 1.0": "stands there twice",
    "choice()": "cannot read 'choice()'",
    "choice(lora, null": "cannot read 'choice(lora, null'",
    "choice(lora, null)": "write lora, null without choice",
    "shuffle(choice(1, 2))": "leave shuffle out",
    "shuffle(range(1, 5))": "leave shuffle out",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_value_is_named_with_file_and_key(text: str) -> None:
    spaces: dict[str, dict[str, Any]] = {
        "adapter.r": {"adapter.r": text},
        "x=y/adapter.r": {"x": {"y": {"adapter.r": text}}},
    }
    for key, space in spaces.items():
        with pytest.raises(ConfigError) as caught:
            parse_space(space, PLACE)
        [problem] = caught.value.problems
        assert problem.startswith(f"{PLACE}.{key}: ")
        assert BAD[text] in problem


@pytest.mark.parametrize(
    "given, problem",
    [
        ({"adapter": {}}, "adapter: a choice needs at least one option"),
        ({"adapter": {"lora": 8}}, "adapter.lora: an option owns a mapping of keys, {} for none, not 8"),
        ({"r": "1, 2", "a": {"x": {"r": "3, 4"}}}, "a.x.r: stands beside a as well; keep one of them"),
        ({"r": 1, "a": {"x": {"b": {"y": {"r": "3, 4"}}}}}, "a.x.r: stands beside a as well; keep one of them"),
        (
            {"a": {"x": {"r": "1, 2"}}, "b": {"y": {"r": "3, 4"}}},
            "b.y.r: belongs to an option of a as well; keep one of them",
        ),
        ({"a": {8: {}, "8": {}}}, "a.8: the option stands there twice"),
    ],
)
def test_a_bad_choice_is_named_with_file_and_key(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space(given, PLACE)
    assert f"{PLACE}.{problem}" in caught.value.problems


def test_all_mistakes_are_named_at_once_and_those_of_the_command_line_as_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space({"a": "interval(3, 1)", "b": "1, 1", "c": "3, 4"}, PLACE)
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match=r"command line: adapter\.r: the interval from 3 to 1 is empty"):
        changed("adapter.r=interval(3, 1)")


def test_every_option_is_drawn() -> None:
    space = parse_space({"a": "8, null, true, 'a, b', 1e-3, [1, 2], {a: 1}"}, PLACE)
    found = {drawn(space, seed).overrides["a"] for seed in range(80)}
    assert found == {"8", "null", "True", "'a, b'", "0.001", "[1,2]", "{a:1}"}

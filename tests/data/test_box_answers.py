"""Boxes in a model's words: read where they are, counted where they are not, never an error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayexp.data.box_answers import BoxAnswer, parse_box_answer

ONE = BoxAnswer(("nodule",), ((800.0, 3.0, 840.0, 471.0),))
JSON = '[{"box_2d": [800, 3, 840, 471], "label": "Nodule"}]'

READ = {
    "as the notebook shows it": f'I look at "left" [1] first.\n```json\n{JSON}\n```\nFinal Answer: X',
    "bare": JSON,
    "alone, without a list": JSON[1:-1],
    "after thinking": f'<unused94>thought [{{"box_2d": [1, 2, 3, 4], "label": "x"}}]<unused95>{JSON}',
    "the last of two": f'```json\n[{{"box_2d": [1, 2, 3, 4], "label": "x"}}]\n```\nBetter:\n```json\n{JSON}\n```',
    "an open fence": f"```json\n{JSON}",
}
UNREAD = {
    "words": "There is no nodule.",
    "nothing": "",
    "cut off": JSON[:-2],
    "cut off after a box": f"{JSON[:-1]}, {JSON[1:-1]}, ",
    "unfinished thinking": f"<unused94>{JSON}",
    "numbers": "[800, 3, 840, 471]",
    "three numbers": '[{"box_2d": [1, 2, 3], "label": "nodule"}]',
    "no label": '[{"box_2d": [1, 2, 3, 4]}]',
    "words for numbers": '[{"box_2d": ["a", 2, 3, 4], "label": "nodule"}]',
    "no numbers": '[{"box_2d": [true, NaN, Infinity, null], "label": "nodule"}]',
    "not finite": '[{"box_2d": [1e999, 2, 3, 4], "label": "nodule"}]',
    "a number of 400 digits": f'[{{"box_2d": [{"9" * 400}, 2, 3, 4], "label": "nodule"}}]',
    "a number of 5,000 digits": f'[{{"box_2d": [{"9" * 5000}, 2, 3, 4], "label": "nodule"}}]',
    "brackets": "[" * 5000,
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_boxes_are_found_in_the_answer(text: str) -> None:
    assert parse_box_answer(text) == ONE


@pytest.mark.parametrize("text", UNREAD.values(), ids=UNREAD)
def test_what_is_no_answer_is_none(text: str) -> None:
    assert parse_box_answer(text) is None


def test_an_empty_list_says_that_there_is_no_box() -> None:
    assert parse_box_answer("```json\n[]\n```") == BoxAnswer((), ())


def test_entries_that_are_no_box_are_counted() -> None:
    assert parse_box_answer(f'{JSON[:-1]}, {{"box_2d": [1, 2], "label": "x"}}, {{"label": "y"}}]') == BoxAnswer(
        ONE.labels, ONE.values, malformed=2
    )


number = st.one_of(st.integers(0, 1000), st.floats(allow_nan=True), st.text(max_size=3), st.none(), st.booleans())
entry = st.one_of(st.fixed_dictionaries({"box_2d": st.lists(number, max_size=5), "label": st.text(max_size=5)}), number)
pieces = st.one_of(
    st.text(max_size=20),
    st.lists(entry, max_size=3).map(json.dumps),
    st.sampled_from(["```json", "```", "<unused94>", "<unused95>", "[", "]", "{", '{"box_2d": [', "Final Answer:"]),
)


@given(st.lists(pieces, max_size=8).map("".join))
def test_no_answer_is_an_error(text: str) -> None:
    read = parse_box_answer(text)
    if read is not None:
        assert len(read.labels) == len(read.values)
        for box in read.located((200, 100)):
            y0, x0, y1, x1 = box.box
            assert 0 <= y0 < y1 <= 200
            assert 0 <= x0 < x1 <= 100


boxes = st.tuples(*[st.integers(0, 1000)] * 4)


@given(st.lists(st.tuples(st.text("abc", min_size=1), boxes), max_size=4), st.text("xyz \n", max_size=9))
def test_what_is_written_is_read(written: list[tuple[str, tuple[int, int, int, int]]], around: str) -> None:
    text = json.dumps([{"box_2d": list(box), "label": label} for label, box in written])
    read = parse_box_answer(f"{around}```json\n{text}\n```{around}")
    assert read == BoxAnswer(tuple(label for label, _ in written), tuple(box for _, box in written))


def test_thousandths_and_shares_are_told_apart() -> None:
    """On an image of 200 x 100 the square has 50 columns of padding on either side."""
    for numbers in ((200, 300, 400, 550), (0.2, 0.3, 0.4, 0.55)):
        [box] = BoxAnswer(("nodule",), (numbers,)).located((200, 100))
        assert box.finding == "nodule"
        assert box.box == pytest.approx((40.0, 10.0, 80.0, 60.0))

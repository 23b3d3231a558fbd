"""What the base is pre-trained on, and that the base in the repository is the one that was measured."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from experiments.results import Results
from experiments.tiny_base.build import WEIGHTS
from experiments.tiny_base.corpus import SEEN, UNSEEN, all_phantoms, caption, plain_phantoms, tokenizer_texts
from experiments.tiny_base.processor import SPECIAL_TOKENS, build_processor
from experiments.tiny_base.run import STUDY
from xrayexp.data.examples import examples_from_table
from xrayexp.data.phantom import FINDINGS
from xrayexp.data.report import Finding, parse_report, write_report

ROOT = Path(__file__).parents[2]

Findings = tuple[Finding, ...]


@pytest.fixture(scope="module")
def corpus() -> list[Findings]:
    return [example.findings for example in examples_from_table(all_phantoms(400).table())]


def test_images_never_show_what_fine_tuning_has_to_teach() -> None:
    shown = {finding.name for example in examples_from_table(plain_phantoms(400, 1).table())
             for finding in example.findings}  # fmt: skip
    assert shown == {*SEEN, "normal"}
    assert set(UNSEEN) == set(FINDINGS) - set(SEEN)
    assert UNSEEN


def test_texts_name_every_finding(corpus: list[Findings]) -> None:
    assert {finding.name for findings in corpus for finding in findings} == {*FINDINGS, "normal"}


def test_caption_is_another_format_that_says_the_same(corpus: list[Findings]) -> None:
    reports = {write_report(findings) for findings in corpus}
    captions = {caption(findings) for findings in corpus}
    assert len(captions) == len(reports)
    assert all(parse_report(text) is None for text in captions)


def test_tokenizer_brings_every_text_back(corpus: list[Findings]) -> None:
    texts = tokenizer_texts(corpus)
    tokenizer = build_processor(texts).tokenizer
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "<eos>", "<bos>"]
    special = set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    for text in {*texts, "left, (é µ) 胸"}:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert not special & set(ids)


def test_weights_in_the_repository_are_those_that_were_measured() -> None:
    recorded = Results.read(STUDY.folder / "results.json").values["checkpoint"]
    weights = (ROOT / "xrayexp" / "models" / "tiny" / WEIGHTS).read_bytes()
    assert sha256(weights).hexdigest() == recorded["sha256"]
    assert len(weights) == recorded["bytes"]

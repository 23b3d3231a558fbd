"""From a table to examples: one per row, none skipped silently."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xrayexp.data.examples import Example, examples_from_table
from xrayexp.data.report import Finding
from xrayexp.errors import DataError


def table(*sentences: object, method: str = "Physician") -> pd.DataFrame:
    rows = range(len(sentences))
    return pd.DataFrame(
        {
            "ImageID": [f"image{row}.png" for row in rows],
            "PatientID": [f"patient{row}" for row in rows],
            "StudyID": [f"study{row}" for row in rows],
            "MethodLabel": method,
            "LabelsLocalizationsBySentence": sentences,
        }
    )


def test_one_example_per_row_in_order() -> None:
    examples = examples_from_table(table("[['nodule', 'loc left'], ['normal']]", "[['normal']]"))
    assert examples == [
        Example("image0.png", "patient0", "study0", (Finding("nodule", ("left",)),)),
        Example("image1.png", "patient1", "study1", (Finding("normal"),)),
    ]


def test_the_same_text_means_different_things_by_method() -> None:
    rows = table("['nodule', ' mass', 'loc left']", "[['nodule'], ['mass', 'loc left']]")
    rows["MethodLabel"] = ["RNN_model", "Physician"]
    flat, nested = examples_from_table(rows)
    assert flat.findings == (Finding("nodule", ("left",)), Finding("mass", ("left",)))
    assert nested.findings == (Finding("nodule"), Finding("mass", ("left",)))


def test_rows_without_finding_are_named() -> None:
    rows = table("[['nodule']]", "[['unchanged']]", np.nan, "[]")
    with pytest.raises(DataError, match=r"3 images.*image1\.png, image2\.png, image3\.png"):
        examples_from_table(rows)


def test_long_lists_of_rows_are_cut() -> None:
    with pytest.raises(DataError, match=r"image4\.png and 3 more"):
        examples_from_table(table(*["[]"] * 8))


def test_a_malformed_row_is_named() -> None:
    with pytest.raises(DataError, match=r"image1\.png"):
        examples_from_table(table("[['nodule']]", "['nodule']"))


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match="StudyID, MethodLabel"):
        examples_from_table(table("[['nodule']]").drop(columns=["StudyID", "MethodLabel"]))


def test_an_empty_table_has_no_examples() -> None:
    assert examples_from_table(table()) == []

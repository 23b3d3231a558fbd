"""The text metrics on reports that radiologists wrote: Indiana University's, which the wheel torchxrayvision ships.

With the real weights (`xrayexp data fetch-metrics`) they are held to values that the packages' authors published;
without, stand-ins show that real reports go through.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.metrics.clinical.standins import write_chexbert, write_radgraph
from xrayexp.data.report import Finding, Report
from xrayexp.metrics.base import Metric
from xrayexp.metrics.clinical.bleu import Bleu
from xrayexp.metrics.clinical.chexbert_accuracy import ChexbertAccuracy
from xrayexp.metrics.clinical.chexbert_f1 import ChexbertF1
from xrayexp.metrics.clinical.chexbert_package import FIVE, LABELS, chexbert_rows
from xrayexp.metrics.clinical.files import chexbert_files, radgraph_files
from xrayexp.metrics.clinical.radgraph_f1 import RadGraphF1
from xrayexp.metrics.clinical.radgraph_package import radgraph_rows
from xrayexp.metrics.clinical.rouge import RougeL
from xrayexp.metrics.samples import ScoredReport
from xrayexp.metrics.scores import Scores
from xrayexp.metrics.scoring import score

pytestmark = pytest.mark.real_data

WHEEL = "torchxrayvision==1.5.7"
REPORTS = "NLMCXR_reports.tgz"
SCORED = 60  # reports; the models take seconds for each on a CPU
UNKNOWN = Report((Finding("normal"),))  # these reports have no findings in PadChest's words
SECTIONS = ("FINDINGS", "IMPRESSION")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XRAYEXP_NLM_REPORTS, or taken from the wheel."""
    if given := os.environ.get("XRAYEXP_NLM_REPORTS"):
        return Path(given)
    folder = tmp_path_factory.mktemp("nlm")
    pip = [sys.executable, "-m", "pip", "--retries", "1", "--timeout", "20"]
    command = [*pip, "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"pip cannot get {WHEEL}, which holds {REPORTS}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (folder / REPORTS).write_bytes(wheel.read(f"torchxrayvision/data/{REPORTS}"))
    return folder / REPORTS


@pytest.fixture(scope="module")
def reports(archive: Path) -> list[dict[str, str]]:
    """The sections of every report, by their titles."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None and member.name.endswith(".xml"):
                sections = ElementTree.parse(file).iterfind(".//AbstractText")
                found.append({section.get("Label", ""): (section.text or "").strip() for section in sections})
    return found


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ones where they are here, otherwise stand-ins."""
    if {chexbert_files().status, radgraph_files("radgraph-xl").status} != {"ok"}:
        write_chexbert(tmp_path, tmp_path / "hub")
        write_radgraph(tmp_path, tmp_path / "hub", "radgraph-xl")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def scored(truths: list[str], predictions: list[str]) -> Scores:
    metrics: list[Metric] = [
        RadGraphF1(constructed=False),
        ChexbertF1(constructed=False),
        ChexbertAccuracy(constructed=False),
        Bleu(constructed=False),
        RougeL(constructed=False),
    ]
    pairs = enumerate(zip(truths, predictions, strict=True))
    together = [
        ScoredReport(
            image_id=str(number),
            patient_id=str(number),
            truth=UNKNOWN,
            predicted=None,
            truth_text=truth,
            predicted_text=prediction,
        )
        for number, (truth, prediction) in pairs
    ]
    return score(together, metrics, bootstrap=0)


def test_every_report_is_read(reports: list[dict[str, str]]) -> None:
    assert len(reports) == 3_955
    assert [sum(bool(report.get(section)) for report in reports) for section in SECTIONS] == [3_425, 3_921]


def test_reports_of_radiologists_go_through_every_metric(weights: None, reports: list[dict[str, str]]) -> None:
    texts = ["\n".join(report[section] for section in SECTIONS) for report in reports if all(map(report.get, SECTIONS))]
    texts = list(dict.fromkeys(texts))[:SCORED]
    same, others = scored(texts, texts), scored(texts, [*texts[1:], texts[0]])
    assert same.left_out == others.left_out == ()
    for name in ("chexbert5_micro_f1", "chexbert14_micro_f1", "chexbert5_accuracy", "bleu4", "rouge_l"):
        assert same.headline(name) == pytest.approx(1, abs=1e-6), name
        assert others.headline(name) < 1, name
    for level in ("simple", "partial", "complete"):
        assert 0 < others.headline(f"radgraph_{level}_f1") < same.headline(f"radgraph_{level}_f1") <= 1


def test_radgraph_s_own_values() -> None:
    """Of tests/radgraph_test.py in the package."""
    if radgraph_files("radgraph").status != "ok":
        pytest.skip("the weights of RadGraph are not here: xrayexp data fetch-metrics --radgraph radgraph")
    rows = radgraph_rows(
        truths=[
            "no acute cardiopulmonary abnormality",
            "et tube terminates 2 cm above the carina retraction by several centimeters is recommended for more "
            "optimal placement bibasilar consolidations better assessed on concurrent chest ct",
            "there is no significant change since the previous exam the feeding tube and nasogastric tube have been "
            "removed",
            "unchanged mild pulmonary edema no radiographic evidence pneumonia",
            "no evidence of acute pulmonary process moderately large size hiatal hernia",
            "no acute intrathoracic process",
        ],
        predictions=[
            "no acute cardiopulmonary abnormality",
            "endotracheal tube terminates 2 5 cm above the carina bibasilar opacities likely represent atelectasis or "
            "aspiration",
            "there is no significant change since the previous exam",
            "unchanged mild pulmonary edema and moderate cardiomegaly",
            "no evidence of acute cardiopulmonary process moderate hiatal hernia",
            "no acute cardiopulmonary process",
        ],
        model="radgraph",
    )
    assert rows.scores["simple"].tolist() == pytest.approx([1, 0.4, 4 / 7, 0.8, 4 / 7, 0.4])
    assert rows.scores["partial"].tolist() == pytest.approx([1, 4 / 15, 4 / 7, 0.4, 3 / 7, 0.4])
    assert rows.scores["complete"].tolist() == pytest.approx([1, 4 / 17, 4 / 7, 0.4, 0.4, 0.4])


def test_chexbert_s_own_values() -> None:
    """Of tests/f1chexbert_test.py in the package of RadGraph, which has the same CheXbert."""
    if chexbert_files().status != "ok":
        pytest.skip("the weights of CheXbert are not here: xrayexp data fetch-metrics")
    rows = chexbert_rows(
        truths=[
            "No pleural effusions.",
            "Enlarged heart.",
            "No evidence of pneumonia. Stable cardiomegaly.",
            "Bilateral lower lobe bronchiectasis with improved right lower medial lung peribronchial consolidation.",
        ],
        predictions=[
            "No pleural effusion. Normal heart size.",
            "Normal heart size.",
            "Increased mild pulmonary edema and left basal atelectasis.",
            "Bilateral lower lobe bronchiectasis with improved right lower medial lung peribronchial consolidation.",
        ],
    )
    five = [LABELS.index(label) for label in FIVE]
    assert (rows.truths == rows.predictions)[:, five].all(axis=1).tolist() == [True, False, False, True]
    support = dict(zip(LABELS, rows.truths.sum(axis=0).tolist(), strict=True))
    assert {label: support[label] for label in FIVE} == {
        "Cardiomegaly": 2, "Edema": 0, "Consolidation": 1, "Atelectasis": 0, "Pleural Effusion": 0
    }  # fmt: skip

"""Records what the untouched packages say about the stand-ins, as goldens.json beside this file.

In an environment of its own, with the transformers that they were written for:

python3.11 -m venv goldens && . goldens/bin/activate
python -m pip install torch==2.13.0 transformers==4.57.1 huggingface_hub==0.36.0 scikit-learn==1.7.2 numpy==2.4.6 \\
    requests==2.34.2 radgraph==0.1.18 f1chexbert==0.0.2
python -m tests.metrics.clinical.record_goldens
"""

from __future__ import annotations

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.metrics.clinical.standins import PAIRS, TEXTS, write_chexbert, write_radgraph

GOLDENS = Path(__file__).with_name("goldens.json")
PACKAGES = ("torch", "transformers", "huggingface_hub", "scikit-learn", "numpy", "radgraph", "f1chexbert")
MODELS = ("radgraph", "radgraph-xl")


def record(folder: Path) -> dict[str, Any]:
    """Runs both packages on stand-ins in `folder`."""
    # Read while the packages are imported, further below.
    os.environ |= {"XDG_CACHE_HOME": str(folder), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    write_chexbert(folder, folder / "hf" / "hub")
    for model in MODELS:
        write_radgraph(folder, folder / "hf" / "hub", model)
    return {
        "versions": {package: version(package) for package in PACKAGES},
        "chexbert": _chexbert(),
        "radgraph": {model: _radgraph(model) for model in MODELS},
    }


def _chexbert() -> dict[str, Any]:
    from f1chexbert import F1CheXbert

    labeler = F1CheXbert(device="cpu")
    truths, predictions = (list(texts) for texts in zip(*PAIRS, strict=True))
    accuracy, per_report, of_14, of_5 = labeler(refs=truths, hyps=predictions)
    return {
        "labels": [labeler.get_label(text) for text in TEXTS],
        "classes": [labeler.get_label(text, mode="classification") for text in TEXTS],
        "accuracy": accuracy,
        "accuracy_per_report": per_report.tolist(),
        "report_14": of_14,
        "report_5": of_5,
    }


def _radgraph(model: str) -> dict[str, Any]:
    from radgraph import F1RadGraph

    scorer = F1RadGraph(reward_level="all", model_type=model, cuda=-1)
    truths, predictions = (list(texts) for texts in zip(*PAIRS, strict=True))
    means, rewards, of_predictions, of_truths = scorer(refs=truths, hyps=predictions)
    return {
        "means": list(means),
        "rewards": dict(zip(("simple", "partial", "complete"), rewards, strict=True)),
        "annotations": {"truths": of_truths, "predictions": of_predictions},
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        recorded = record(Path(temporary))
    GOLDENS.write_text(json.dumps(recorded, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{GOLDENS}: {recorded['versions']}")

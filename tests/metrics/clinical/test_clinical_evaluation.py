"""`python evaluate.py run=... metrics=all` with the weights of the clinical metrics, and without."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from xrayexp import pipeline
from xrayexp.metrics.registry import metrics_of
from xrayexp.tracking.summary import TrainingSummary


def test_with_weights_and_without(
    trained_run: TrainingSummary,
    compose: Callable[..., DictConfig],
    use_standins: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run.folder, run)

    def evaluated() -> tuple[dict[str, Any], str]:
        """metrics.json and the table."""
        cfg = compose(f"run={run}", "metrics=all", "metrics.bootstrap=20", config="evaluate")
        folder = pipeline.evaluate(cfg).folder
        rows = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        assert all(json.loads(row)["truth_text"].startswith("FINDINGS:") for row in rows)
        assert len(rows) == 16
        written = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return written, (folder / "table.txt").read_text(encoding="utf-8")

    expected = {definition.name for metric in metrics_of("clinical") for definition in metric.definitions}
    written, table = evaluated()
    assert written["left_out"] == {}
    assert expected < set(written["metrics"])
    assert 0 <= written["metrics"]["radgraph_simple_f1"]["low"] <= written["metrics"]["radgraph_simple_f1"]["value"]
    assert "RadGraph F1, simple (radgraph-xl)" in table
    assert "not comparable with published figures" in " ".join(table.split())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    written, table = evaluated()
    for metric in ("radgraph", "chexbert", "chexbert_accuracy"):
        assert written["left_out"][metric]["fix"] == "`xrayexp data fetch-metrics`"
        assert "is not there" in written["left_out"][metric]["reason"]
    assert {"micro_f1", "exact_match", "bleu4", "rouge_l"} < set(written["metrics"])
    assert not any("radgraph" in name or "chexbert" in name for name in written["metrics"])
    assert "xrayexp data fetch-metrics" in table

"""Stand-ins for the weights of both packages, in the places where the packages look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.metrics.clinical.record_goldens import GOLDENS, MODELS
from tests.metrics.clinical.standins import write_chexbert, write_radgraph


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the stand-ins of both packages, and hub/ with their tokenizers."""
    cache = tmp_path_factory.mktemp("cache")
    write_chexbert(cache, cache / "hub")
    for model in MODELS:
        write_radgraph(cache, cache / "hub", model)
    return cache


@pytest.fixture
def use_standins(standins: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's caches are those of the stand-ins."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(standins))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(standins / "hub"))
    return standins


@pytest.fixture(scope="session")
def goldens() -> dict[str, Any]:
    """What the untouched packages say about the stand-ins."""
    loaded: dict[str, Any] = json.loads(GOLDENS.read_text(encoding="utf-8"))
    return loaded

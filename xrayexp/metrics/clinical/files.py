"""Where the weights of the clinical metrics lie, and whether they are there. Nothing here asks the network.

The places are those of the packages themselves, so that what they have downloaded before is found.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from xrayexp.checks import Check

FETCH = "xrayexp data fetch-metrics"

SCORERS = "StanfordAIMI/RRG_scorers"  # the hub repository of both packages
CHEXBERT_FILE = "chexbert.pth"
CHEXBERT_ENCODER = "bert-base-uncased"  # config and tokenizer; its weights are in the checkpoint
RADGRAPH_MODELS = ("radgraph-xl", "radgraph")

_CONFIG, _WEIGHTS, _VOCABULARY = "config.json", "weights.th", "vocabulary"
_TOKENIZERS = ("tokenizer.json", "vocab.txt")


def chexbert_checkpoint() -> Path:
    """The file that f1chexbert loads."""
    return _cache("chexbert") / CHEXBERT_FILE


def radgraph_folder(model: str) -> Path:
    """The folder that radgraph loads a model from; each version of the package has its own.

    Args:
        model: one of RADGRAPH_MODELS.
    """
    return radgraph_cache() / model


def radgraph_cache() -> Path:
    """The folder with the folders of radgraph's models."""
    return _cache("radgraph") / version("radgraph")


def radgraph_encoder(model: str) -> str:
    """The hub id of the encoder whose tokenizer a RadGraph model uses, as its config says.

    Raises:
        OSError, ValueError, KeyError: the config is not there or is no such config.
    """
    config = json.loads((radgraph_folder(model) / _CONFIG).read_text(encoding="utf-8"))
    return str(config["model"]["embedder"]["token_embedders"]["bert"]["model_name"])


def encoder_folder(hub_id: str) -> Path | None:
    """The snapshot with an encoder's config and tokenizer in the hub's cache; None where either is missing."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, _CONFIG)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    # Without a tokenizer file transformers 5 loads a vocabulary of five tokens, and says nothing.
    return folder if any((folder / name).is_file() for name in _TOKENIZERS) else None


def chexbert_files() -> Check:
    """Whether CheXbert F1 can be computed."""
    name, checkpoint = "CheXbert weights", chexbert_checkpoint()
    if not checkpoint.is_file():
        return _missing(name, checkpoint)
    if encoder_folder(CHEXBERT_ENCODER) is None:
        return Check(name, "missing", f"the tokenizer of {CHEXBERT_ENCODER} is not in the hub's cache", f"`{FETCH}`")
    return Check(name, "ok", str(checkpoint))


def radgraph_files(model: str) -> Check:
    """Whether RadGraph F1 can be computed.

    Args:
        model: one of RADGRAPH_MODELS.
    """
    name, folder = f"{model} weights", radgraph_folder(model)
    for path in (folder / _CONFIG, folder / _VOCABULARY, folder / _WEIGHTS):
        if not path.exists():
            return _missing(name, path, model)
    try:
        encoder = radgraph_encoder(model)
    except (ValueError, KeyError, TypeError):
        detail = f"{folder / _CONFIG} is no config of RadGraph"
        return Check(name, "missing", detail, f"delete {folder}, then {_fix(model)}")
    if encoder_folder(encoder) is None:
        return Check(name, "missing", f"the tokenizer of {encoder} is not in the hub's cache", _fix(model))
    return Check(name, "ok", str(folder))


def _missing(name: str, path: Path, model: str = RADGRAPH_MODELS[0]) -> Check:
    return Check(name, "missing", f"{path} is not there", _fix(model))


def _fix(model: str) -> str:
    return f"`{FETCH}`" if model == RADGRAPH_MODELS[0] else f"`{FETCH} --radgraph {model}`"


def _cache(package: str) -> Path:
    from appdirs import user_cache_dir

    return Path(user_cache_dir(package))

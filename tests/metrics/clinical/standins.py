"""Small seeded weights for RadGraph and CheXbert, laid out as the packages expect them.

They know nothing of radiology. What they are for: the packages read them, run on them, and so can be compared across
versions of transformers without the real weights. Nothing here needs xrayexp, so that `record_goldens.py` runs in an
environment with the untouched packages alone.
"""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

RADGRAPH_VERSION = "0.1.18"
BERT = "bert-base-uncased"
RADGRAPH_ENCODER = "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext"

HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 2, 48, 512
FOLD = 48  # wordpieces that RadGraph's encoder reads at once; longer reports are folded
SPAN_WIDTH, FEATURE, FEEDFORWARD = 2, 4, 16
ENTITIES = ("", "Observation::definitely present", "Anatomy::definitely present", "Observation::definitely absent")
RELATIONS = ("modify", "located_at", "suggestive_of")

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *("no", "the", "is", "are", "in", "of", "and", "with", "there", "acute", "mild", "moderate", "small", "large"),
    *("left", "right", "bilateral", "lower", "upper", "lobe", "lung", "heart", "pleural", "effusion", "edema"),
    *("consolidation", "pneumonia", "atelectasis", "pneumothorax", "opacity", "normal", "size", "clear", "unchanged"),
)

TEXTS = (
    "",
    "No acute cardiopulmonary process.",
    "Moderate cardiomegaly with a small right pleural effusion.",
    "The heart is normal in size.\nThe lungs are clear.",
    "  Mild pulmonary edema;   unchanged  left lower lobe atelectasis / consolidation.  ",
    "ET tube terminates 2.5 cm above the carina (unchanged).",
    "Possible pneumonia in the right upper lobe.",
    "Large left pneumothorax with 50% volume loss.",
    "Bilateral hilar opacity, likely edema. No fracture.",
    "Normal.",
    "Stable XXXX changes of the thoracic spine: scoliosis, osteophytes.",
    " ".join(f"Cardiopulmonary hyperinflation {number}, costophrenic thickening." for number in range(10)),
)
"""Twelve reports: an empty one, and one of more than 512 wordpieces."""

PAIRS = (
    (TEXTS[1], TEXTS[3]),
    (TEXTS[2], "Moderate cardiomegaly with a small right pleural effusion."),
    (TEXTS[4], "Mild pulmonary edema with left lower lobe atelectasis."),
    ("", TEXTS[8]),
    (TEXTS[8], "Right upper lobe consolidation, likely pneumonia. No edema. No fracture."),
    ("", ""),
    (TEXTS[6], "Possible consolidation in the right upper lobe, suggestive of pneumonia."),
    (TEXTS[11], TEXTS[11].replace("3,", "3 with")),
)
"""Truth and prediction of eight reports."""


def write_chexbert(cache: Path, hub: Path) -> None:
    """CheXbert's checkpoint, and the config and tokenizer of its BERT.

    Args:
        cache: what XDG_CACHE_HOME names.
        hub: what HF_HUB_CACHE names.
    """
    shapes = _bert_shapes("module.bert.", pooler=True)
    for head in range(14):
        classes = 4 if head < 13 else 2
        shapes |= {
            f"module.linear_heads.{head}.weight": (classes, HIDDEN),
            f"module.linear_heads.{head}.bias": (classes,),
        }
    folder = cache / "chexbert"
    folder.mkdir(parents=True)
    torch.save({"model_state_dict": _weights(shapes)}, folder / "chexbert.pth")
    write_encoder(hub, BERT)


def write_radgraph(cache: Path, hub: Path, model: str) -> None:
    """RadGraph's model folder, and the config and tokenizer of its encoder."""
    folder = cache / "radgraph" / RADGRAPH_VERSION / model
    vocabulary = folder / "vocabulary"
    vocabulary.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_radgraph_config()))
    for name, lines in {
        "non_padded_namespaces": ("*tags", "*labels"),
        f"{model}__ner_labels": ENTITIES,
        f"{model}__relation_labels": RELATIONS,
    }.items():
        (vocabulary / f"{name}.txt").write_text("\n".join(lines) + "\n")
    # Entities and relations that score below 0 do not exist: the offsets leave about as many as in real reports.
    ner, pruner = _scorer(f"_ner._ner_scorers.{model}__ner_labels"), _scorer(_pruner(model))
    offsets = {f"{ner}.bias": -0.8, f"{pruner}.bias": -2.5}
    torch.save(_weights(_radgraph_shapes(model), offsets), folder / "weights.th")
    write_encoder(hub, RADGRAPH_ENCODER)


def write_encoder(hub: Path, name: str) -> None:
    """The snapshot of a BERT in the hub's cache: config and tokenizer, no weights."""
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True, exist_ok=True)  # both models of RadGraph share an encoder
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    pieces = _pieces()
    config = {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": len(pieces),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
    }
    (snapshot / "config.json").write_text(json.dumps(config))
    (snapshot / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (snapshot / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "model_max_length": 512}))
    tokenizer = BertWordPieceTokenizer({piece: number for number, piece in enumerate(pieces)}, lowercase=True)
    tokenizer.save(str(snapshot / "tokenizer.json"))


def _pieces() -> list[str]:
    letters = string.ascii_lowercase + string.digits
    return [*SPECIAL, *string.punctuation, *letters, *(f"##{letter}" for letter in letters), *WORDS]


def _bert_shapes(prefix: str, pooler: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(_pieces()), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        **_norm("embeddings.LayerNorm", HIDDEN),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= _linear(at + name, HIDDEN, HIDDEN)
        shapes |= _norm(at + "attention.output.LayerNorm", HIDDEN) | _norm(at + "output.LayerNorm", HIDDEN)
        shapes |= _linear(at + "intermediate.dense", HIDDEN, INNER) | _linear(at + "output.dense", INNER, HIDDEN)
    if pooler:
        shapes |= _linear("pooler.dense", HIDDEN, HIDDEN)
    return {prefix + name: shape for name, shape in shapes.items()}


def _radgraph_shapes(model: str) -> dict[str, tuple[int, ...]]:
    span = 2 * HIDDEN + FEATURE
    embedder = "_embedder.token_embedder_bert._matched_embedder.transformer_model."
    ner, relation = f"{model}__ner_labels", f"{model}__relation_labels"
    return {
        **_bert_shapes(embedder, pooler=True),
        "_endpoint_span_extractor._span_width_embedding.weight": (SPAN_WIDTH, FEATURE),
        **_feedforward(f"_ner._ner_scorers.{ner}.0._module.", span),
        **_linear(_scorer(f"_ner._ner_scorers.{ner}"), FEEDFORWARD, len(ENTITIES) - 1),
        **_feedforward(f"{_pruner(model)}.0._module.", span),
        **_linear(_scorer(_pruner(model)), FEEDFORWARD, 1),
        **_feedforward(f"_relation._relation_feedforwards.{relation}.", 3 * span),
        **_linear(f"_relation._relation_scorers.{relation}", FEEDFORWARD, len(RELATIONS)),
        **_unused_shapes(span),
    }


def _pruner(model: str) -> str:
    return f"_relation._mention_pruners.{model}__relation_labels._scorer"


def _scorer(name: str) -> str:
    return f"{name}.1._module"


def _unused_shapes(span: int) -> dict[str, tuple[int, ...]]:
    """The modules for coreference and events, which RadGraph carries and does not run."""
    return {
        "_coref._distance_embedding.weight": (10, FEATURE),
        **_feedforward("_coref._antecedent_feedforward._module.", 3 * span + FEATURE),
        **_feedforward("_coref._mention_pruner._scorer.0._module.", span),
        **_linear("_coref._mention_pruner._scorer.1._module", FEEDFORWARD, 1),
        **_linear("_coref._antecedent_scorer._module", FEEDFORWARD, 1),
        **_linear("_coref._f_network._linear_layers.0", 2 * span, span),
        "_events._distance_embedding.weight": (10, FEATURE),
    }


def _radgraph_config() -> dict[str, Any]:
    encoder = {"type": "pretrained_transformer_mismatched", "model_name": RADGRAPH_ENCODER, "max_length": FOLD}
    return {
        "dataset_reader": {"type": "dygie", "max_span_width": SPAN_WIDTH, "token_indexers": {"bert": encoder}},
        "model": {
            "type": "dygie",
            "embedder": {"token_embedders": {"bert": encoder}},
            "initializer": {"regexes": []},
            "module_initializer": {"regexes": []},
            "feature_size": FEATURE,
            "max_span_width": SPAN_WIDTH,
            "target_task": "relation",
            "feedforward_params": {"num_layers": 1, "hidden_dims": FEEDFORWARD, "dropout": 0.4},
            "loss_weights": {"ner": 0.2, "relation": 1.0, "coref": 0.0, "events": 0.0},
            "modules": {
                "ner": {},
                "relation": {"spans_per_word": 0.5},
                "coref": {"spans_per_word": 0.3, "max_antecedents": 100, "coref_prop": 0},
                "events": {
                    "trigger_spans_per_word": 0.3,
                    "argument_spans_per_word": 0.8,
                    "loss_weights": {"trigger": 0.2, "arguments": 1.0},
                },
            },
        },
    }


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _feedforward(name: str, inputs: int) -> dict[str, tuple[int, ...]]:
    return _linear(f"{name}_linear_layers.0", inputs, FEEDFORWARD)


def _weights(
    shapes: Mapping[str, tuple[int, ...]], offsets: Mapping[str, float] | None = None
) -> dict[str, torch.Tensor]:
    """Normal numbers, of a generator per tensor, so that the order of tensors is of no consequence."""
    weights = {}
    for name, shape in shapes.items():
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if "LayerNorm.weight" in name:
            values = 1 + 0.1 * values
        elif len(shape) == 1:
            values = 0.1 * values + next(
                (by for part, by in (offsets or {}).items() if part in name and ".1." in name), 0.0
            )
        elif "embeddings" not in name:
            values = 2.0 * values / np.sqrt(shape[-1])
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights

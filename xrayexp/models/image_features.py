"""Images as the language model gets them: through the vision tower and the projector, apart from the text.

Where both are frozen, these features depend on the image alone, so that they can be computed once and used again.
"""

from __future__ import annotations

from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

FEATURES = "image_features"  # among a model's inputs, in place of pixel_values


@torch.no_grad()
def image_features(model: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """What takes the place of the image tokens, [images, image tokens, hidden], in the type of the embeddings.

    Args:
        model: a Hugging Face vision-language model, with injected adapters or without (not a `PeftModel`).
        pixel_values: [images, channels, height, width].
    """
    features: torch.Tensor = model.model.get_image_features(pixel_values, return_dict=True).pooler_output
    return features.to(embedding_dtype(model))


def with_image_features(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inputs of the backbone, with features in their places among the embeddings, as its own forward puts them there.

    Args:
        model: as for `image_features`.
        inputs: with `FEATURES` [images, image tokens, hidden] in place of pixels; others are returned as they are.
    """
    if FEATURES not in inputs:
        return inputs
    rest = {name: value for name, value in inputs.items() if name not in (FEATURES, "input_ids")}
    ids, features = inputs["input_ids"], inputs[FEATURES]
    image = ids == model.config.image_token_id  # [batch, tokens]
    embeddings = model.get_input_embeddings()(ids.masked_fill(image, 0))  # an image token may have no embedding
    features = features.to(embeddings.device, embeddings.dtype)
    return rest | {"inputs_embeds": embeddings.masked_scatter(image.unsqueeze(-1), features)}


def embedding_dtype(model: PreTrainedModel) -> torch.dtype:
    """The type of embedded tokens: that of the embeddings, or of their copy where they are trained."""
    one = torch.zeros(1, dtype=torch.long, device=model.device)
    embedded: torch.Tensor = model.get_input_embeddings()(one)
    return embedded.dtype


def features_are_fixed(model: PreTrainedModel) -> bool:
    """Whether an image's features stay the same: nothing on their way is trained or random."""
    return not any(
        any(parameter.requires_grad for parameter in part.parameters())
        or any(_dropout(module) > 0 for module in part.modules())
        for part in _way(model)
    )


def _dropout(module: torch.nn.Module) -> float:
    """The probability of dropout: torch's own modules call it `p`, transformers' attention `dropout`."""
    found: Any = module.p if isinstance(module, torch.nn.Dropout) else getattr(module, "dropout", 0.0)
    return float(found) if isinstance(found, int | float) else 0.0


def fingerprint(model: PreTrainedModel) -> str:
    """Changes with whatever features depend on beside the image: weights, types, attention, transformers' code."""
    digest = blake2b(digest_size=16)
    for part in _way(model):
        for name, value in sorted(part.state_dict().items()):
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    facts = (model.config._attn_implementation, embedding_dtype(model), model.device.type, version("transformers"))
    digest.update(str(facts).encode())
    return digest.hexdigest()


def _way(model: PreTrainedModel) -> Iterator[torch.nn.Module]:
    yield model.model.vision_tower
    yield model.model.multi_modal_projector

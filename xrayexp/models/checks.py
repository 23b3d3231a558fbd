"""What loading a model needs: its weights, here or within reach, and the account that may fetch them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from xrayexp.checks import Check

HUB_TIMEOUT = 3.0  # seconds

_NAME = "model weights"
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PROCESSOR = (("tokenizer.json", "tokenizer.model"), ("processor_config.json", "preprocessor_config.json"))
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_LOGIN = "`hf auth login` (or set HF_TOKEN)"
_A_COPY = "set model.pretrained to a folder that holds a copy"


def weights(pretrained: str) -> Check:
    """Whether a model's weights are here, or could be downloaded now.

    Weights that still have to be downloaded are a warning. Asking the hub takes at most `HUB_TIMEOUT`.

    Args:
        pretrained: a local folder, a hub id, or `pkg://package/path` for what ships with a package.
    """
    from xrayexp.models.loading import resolve_pretrained

    try:
        path = resolve_pretrained(pretrained)
    except ModuleNotFoundError as error:
        return Check(_NAME, "missing", f"{pretrained}: {error}", "correct model.pretrained")
    folder = Path(path).expanduser()
    if path != pretrained:
        return _in_folder(pretrained, folder, "install the package again: files of it are missing")
    if not is_hub_id(pretrained):
        return _in_folder(pretrained, folder, "set model.pretrained to a checkpoint's folder or hub id")
    return _from_hub(pretrained)


def is_hub_id(pretrained: str) -> bool:
    """Whether a model is named as on the hub, and no folder here has that name."""
    return not Path(pretrained).expanduser().exists() and _HUB_ID.fullmatch(pretrained) is not None


def hub_token() -> Check:
    """Whether Hugging Face will know who asks: gated weights need it."""
    from huggingface_hub import get_token

    name = "Hugging Face token"
    if get_token() is None:
        return Check(name, "missing", "none found; gated weights such as MedGemma's need one", _LOGIN)
    return Check(name, "ok", "in HF_TOKEN" if os.environ.get("HF_TOKEN") else "stored by `hf auth login`")


def _in_folder(pretrained: str, folder: Path, fix: str) -> Check:
    if not folder.is_dir():
        return Check(_NAME, "missing", f"{pretrained}: no such folder", fix)
    if lacking := _lacking(folder):
        return Check(_NAME, "missing", f"{pretrained} lacks {', '.join(lacking)}", fix)
    return Check(_NAME, "ok", f"{pretrained}, {_megabytes(folder):,.1f} MB")


def _lacking(folder: Path) -> list[str]:
    """Files of a checkpoint that are not in its folder, shards included."""
    index = folder / _INDEX
    shards = {_WEIGHTS}
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError):
            return [f"a readable {_INDEX}"]
    lacking = [file for file in (_CONFIG, *sorted(shards)) if not (folder / file).is_file()]
    for processor in _PROCESSOR:  # each under its present or an older name
        if not any((folder / name).is_file() for name in processor):
            lacking.append(processor[0])
    return lacking


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6


def _from_hub(hub_id: str) -> Check:
    """Looks into the cache first, then asks the hub."""
    from huggingface_hub import constants, try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, _CONFIG)
    if isinstance(config, str) and not _lacking(Path(config).parent):
        return Check(_NAME, "ok", f"{hub_id}, {_megabytes(Path(config).parent):,.1f} MB in the hub's cache")
    if constants.HF_HUB_OFFLINE:
        detail = f"{hub_id} is not in the hub's cache, and HF_HUB_OFFLINE forbids asking the hub"
        return Check(_NAME, "missing", detail, f"unset HF_HUB_OFFLINE, or {_A_COPY}")
    return _ask_hub(hub_id)


def _ask_hub(hub_id: str) -> Check:
    """Asks for one small file, as a download would begin, but without retrying."""
    from huggingface_hub import errors, get_hf_file_metadata, get_token, hf_hub_url

    http_error = errors.HTTPError  # type: ignore[attr-defined]  # httpx's or httpx2's, as this version uses
    page = f"https://huggingface.co/{hub_id}"
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, _CONFIG), token=get_token(), timeout=HUB_TIMEOUT)
    except errors.GatedRepoError:
        who = "no account is logged in" if get_token() is None else "this account has not accepted it"
        detail = f"{hub_id} has a licence that must be accepted, and {who}"
        return Check(_NAME, "missing", detail, f"accept the licence at {page}, then {_LOGIN}")
    except errors.RepositoryNotFoundError:
        detail = f"{hub_id} is neither a folder here nor a model that the hub shows to this account"
        return Check(_NAME, "missing", detail, f"correct model.pretrained, or log in: {_LOGIN}")
    except errors.HfHubHTTPError as error:
        reason = str(error).partition("\n")[0]
        return Check(_NAME, "missing", f"{hub_id}: {reason}", f"look at {page}, or {_A_COPY}")
    except http_error:
        detail = f"{hub_id} is not in the hub's cache, and the hub does not answer"
        return Check(_NAME, "missing", detail, f"connect to the internet, or {_A_COPY}")
    return Check(_NAME, "warning", f"{hub_id} will be downloaded by the first run", f"`hf download {hub_id}`")

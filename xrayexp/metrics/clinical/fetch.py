"""Downloads what the clinical metrics need, to where the packages look for it.

The packages' own downloads do not work with huggingface_hub 1 and newer: f1chexbert's lands beside the place where it
looks, and both hide what went wrong.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xrayexp.checks import Check
from xrayexp.errors import UserError, is_disk_full
from xrayexp.metrics.clinical.files import (
    CHEXBERT_ENCODER,
    CHEXBERT_FILE,
    FETCH,
    SCORERS,
    chexbert_checkpoint,
    chexbert_files,
    encoder_folder,
    radgraph_encoder,
    radgraph_files,
    radgraph_folder,
)
from xrayexp.replacing import replaced

log = logging.getLogger(__name__)

LICENCES = (
    f"{SCORERS} says: MIT. Beyond that, the authors of CheXbert ask for a licence for commercial use "
    "(https://github.com/stanfordmlgroup/CheXbert), and RadGraph was trained on reports that PhysioNet gives to "
    "credentialed users only (https://physionet.org/content/radgraph/)."
)

_ENCODER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
_CHUNK = 2**20


def fetch(radgraph_models: Sequence[str]) -> list[Check]:
    """Downloads what is missing; what was begun goes on where it was, and what is there is not asked for again.

    Args:
        radgraph_models: some of RADGRAPH_MODELS.

    Returns:
        What is now there.

    Raises:
        UserError: the hub cannot be reached or does not give a file, or the disk is full.
    """
    wanted: list[tuple[Callable[[], Check], Callable[[], None]]] = [(chexbert_files, _fetch_chexbert)]
    wanted += [(lambda m=m: radgraph_files(m), lambda m=m: _fetch_radgraph(m)) for m in radgraph_models]  # type: ignore[misc]
    with _explained():
        for check, download in wanted:
            if check().status != "ok":
                download()
    return [check() for check, _ in wanted]


def _fetch_chexbert() -> None:
    if not chexbert_checkpoint().is_file():
        downloaded = _download(SCORERS, CHEXBERT_FILE)
        with replaced(chexbert_checkpoint()) as temporary:
            _link(downloaded, temporary)
    _fetch_encoder(CHEXBERT_ENCODER)


def _fetch_radgraph(model: str) -> None:
    folder = radgraph_folder(model)
    if not folder.is_dir() or not any(folder.iterdir()):
        archive = _download(SCORERS, f"{model}.tar.gz")
        unpacked = folder.with_name(f".{folder.name}.unpacking")
        shutil.rmtree(unpacked, ignore_errors=True)  # of a download that was cut off
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(unpacked, filter="data")
        if folder.is_dir():
            folder.rmdir()  # the package makes it before it downloads
        unpacked.rename(folder)
    if radgraph_files(model).status != "ok":
        _fetch_encoder(radgraph_encoder(model))


def _fetch_encoder(hub_id: str) -> None:
    """Config and tokenizer, without the weights."""
    if encoder_folder(hub_id) is None:
        there = {file.rfilename for file in _listing(hub_id)}
        for name in _ENCODER_FILES:
            if name in there:
                _download(hub_id, name)


def _download(hub_id: str, name: str) -> Path:
    """The file in the hub's cache, complete.

    Raises:
        UserError: what arrived is not what the hub has.
    """
    from huggingface_hub import hf_hub_download

    [expected] = [file for file in _listing(hub_id) if file.rfilename == name]
    log.info("%s of %s, %.1f MB", name, hub_id, expected.size / 1e6)
    path = Path(hf_hub_download(hub_id, name))
    if path.stat().st_size != expected.size or (expected.lfs and _sha256(path) != expected.lfs.sha256):
        path.resolve().unlink()
        raise UserError(f"{name} arrived damaged and was deleted: try `{FETCH}` again")
    return path


def _listing(hub_id: str) -> Sequence[Any]:
    """The files of a repository with their sizes and checksums. One request, which fails at once without network."""
    from huggingface_hub import HfApi

    return HfApi().model_info(hub_id, files_metadata=True).siblings or []


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _link(file: Path, link: Path) -> None:
    """One file under two names, or, where the system or the disks do not allow it, two files."""
    try:
        link.hardlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, link)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what keeps a download from succeeding into one sentence."""
    from huggingface_hub import errors

    no_network = (errors.HTTPError, errors.LocalEntryNotFoundError)  # type: ignore[attr-defined]  # httpx's or httpx2's
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise UserError(f"HF_HUB_OFFLINE forbids asking the hub: unset it, then `{FETCH}`") from error
    except errors.HfHubHTTPError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"the hub does not give a file ({reason}): try `{FETCH}` later") from error
    except no_network as error:
        raise UserError(f"the hub does not answer: connect to the internet, then `{FETCH}`") from error
    except OSError as error:
        advice = "make room on the disk" if is_disk_full(error) else "correct that"
        raise UserError(f"the weights cannot be written ({error}): {advice}, then `{FETCH}`") from error

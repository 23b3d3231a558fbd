"""Puts a folder on the Hugging Face hub, as a private repository, and asks before slow work whether that will do."""

from __future__ import annotations

import re
from pathlib import Path

from xrayexp.errors import UserError

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_LOGIN = "log in with `hf auth login` (or set HF_TOKEN) and a token that may write"


def require_free_name(repository: str) -> None:
    """Passes when the account that is logged in may make `repository`, and nobody has.

    Args:
        repository: OWNER/NAME.

    Raises:
        UserError: it is no such name, is taken or belongs to somebody else, nobody is logged in, or the hub does not
            answer.
    """
    from huggingface_hub import HfApi, errors

    if not _NAME.fullmatch(repository):
        raise UserError(f"--push wants OWNER/NAME, not '{repository}'")
    api, owner = HfApi(), repository.partition("/")[0]
    try:
        account = api.whoami()
        taken = api.repo_exists(repository)
    except errors.LocalTokenNotFoundError as error:
        raise UserError(f"--push: nobody is logged in to the hub: {_LOGIN}") from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError("--push: HF_HUB_OFFLINE forbids asking the hub: unset it, or leave --push out") from error
    except errors.HfHubHTTPError as error:
        raise UserError(f"--push: the hub does not accept this login ({_first_line(error)}): {_LOGIN}") from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # httpx's or httpx2's, as this version uses
        raise UserError(f"--push: the hub does not answer ({_first_line(error)}): leave --push out") from error
    owners = {account["name"], *(group["name"] for group in account.get("orgs", []))}
    if owner not in owners:
        raise UserError(f"--push: this login may write to {', '.join(sorted(owners))}, not to {owner}")
    if taken:
        raise UserError(f"--push: {repository} is on the hub already, and is not overwritten: choose another name")


def push(folder: Path, repository: str) -> str:
    """Uploads a folder to a new private repository.

    Returns:
        The address.

    Raises:
        UserError: the upload did not succeed; the folder is as it was.
    """
    from huggingface_hub import HfApi, errors

    api = HfApi()
    try:
        address = str(api.create_repo(repository, private=True))
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload the merged model")
    except (errors.HTTPError, ValueError) as error:  # type: ignore[attr-defined]  # or the hub dislikes the card
        raise UserError(
            f"the upload to {repository} failed ({_first_line(error)}). The model lies in {folder}; try again with "
            f"`hf upload {repository} {folder}`"
        ) from error
    return address


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

"""A config as strangers may see it: loggers send it to servers, where it outlives the run."""

from __future__ import annotations

import getpass
import platform
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

REDACTED = "redacted"
PRIVATE_SECTIONS = ("paths",)

# A key is secret by its last word (`api_key`, but not `max_new_tokens` or `key_column`), or by any of the others.
SECRET_LAST_WORDS = {"token", "key", "keys", "auth", "pwd"}
SECRET_WORDS = {"password", "passwd", "passphrase", "secret", "secrets", "credential", "credentials", "apikey"}
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

# Inside a text: `--token=abc`, `?api_key=abc`, the login of https://user:password@server/
ASSIGNED_SECRET = re.compile(r"(?i)((?:token|key|password|passwd|secret)=)[^\s&,;]+")
LOGIN_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
# /a/b, C:\a, \\server\share and ~/a inside a text; not the slash of "and/or" or those of https://
PATH_INSIDE = re.compile(r"(?<![\w/.\\-])(?:~|[A-Za-z]:)?[/\\](?!/)[^\s\"'<>|,;()\[\]{}]+")


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what says where and by whom it was run.

    The section `paths` and keys that name a secret are left out. Absolute paths shrink to their last component, as do
    relative ones and addresses that name the user, the home folder or the host; elsewhere the name is "redacted".

    Args:
        config: with all interpolations resolved.

    Returns:
        A copy of the same nesting.
    """
    names = _private_names()
    sections = {key: value for key, value in config.items() if key not in PRIVATE_SECTIONS}
    return {key: _public(value, names) for key, value in sections.items() if not _is_secret(str(key))}


def public_text(text: str) -> str:
    """One text, as `public_config` changes it."""
    return _public_text(text, _private_names())


def _public(value: Any, names: re.Pattern[str]) -> Any:
    match value:
        case Mapping():
            return {key: _public(inner, names) for key, inner in value.items() if not _is_secret(str(key))}
        case list() | tuple():
            return [_public(inner, names) for inner in value]
        case str() | Path():
            return _public_text(str(value), names)
        case _:
            return value


def _is_secret(key: str) -> bool:
    words = [word.lower() for word in WORDS.findall(key)]
    return bool(words) and (words[-1] in SECRET_LAST_WORDS or not SECRET_WORDS.isdisjoint(words))


def _public_text(text: str, names: re.Pattern[str]) -> str:
    # What is left when one private thing is gone may look like another.
    while (scrubbed := _scrubbed(text, names)) != text:
        text = scrubbed
    return text


def _scrubbed(text: str, names: re.Pattern[str]) -> str:
    if is_path(text):
        text = last_component(text)
    text = ASSIGNED_SECRET.sub(rf"\1{REDACTED}", LOGIN_IN_URL.sub("", text))
    text = PATH_INSIDE.sub(lambda found: last_component(found.group()), text)
    if names.search(text) and not re.search(r"\s", text):
        text = last_component(text)  # a relative path or an address
    return names.sub(REDACTED, text)


def is_path(text: str) -> bool:
    """Whether a text is an absolute path, of this operating system or another, or one below a home folder."""
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return absolute or text.startswith(("~", "\\", "file:/"))


def last_component(text: str) -> str:
    """What stands behind the last separator of either kind; empty for a root."""
    parts = [part for part in re.split(r"[/\\]", text) if part.strip("~: ")]
    return parts[-1].lstrip("~") if parts else ""


def _private_names() -> re.Pattern[str]:
    """Finds the user's name, the home folder and the host's name, as whole words in any case."""
    host = platform.node()
    names = {_user_name(), str(Path.home()), host, host.partition(".")[0]} - {"", "/"}
    found = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![^\W_])(?:{found})(?![^\W_])" if found else r"(?!)", re.IGNORECASE)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return ""

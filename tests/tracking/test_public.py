from __future__ import annotations

import getpass
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from xrayexp.settings import Settings
from xrayexp.tracking.public import REDACTED, is_path, public_config

USER, HOST, HOME = "ana.lopez", "scanner7.hospital.example", "/home/ana.lopez"


@pytest.fixture(autouse=True, scope="module")
def somebody() -> Iterator[None]:
    """A user, a home and a host with names of their own: the real ones may be words like root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(getpass, "getuser", lambda: USER)
        patch.setattr(platform, "node", lambda: HOST)
        patch.setattr(Path, "home", lambda: Path(HOME))
        yield


def public(value: str) -> str:
    found: str = public_config({"value": value})["value"]
    return found


@pytest.mark.parametrize(
    "value, expected",
    [
        ("/data/hospital/pad chest", "pad chest"),
        (r"C:\Users\somebody\data", "data"),
        (r"\\server\share\labels.csv", "labels.csv"),
        ("~/data", "data"),
        ("file:///data/runs", "runs"),
        ("/", ""),
        ("--root=/data/hospital/padchest", "--root=padchest"),
        ("backed up (/mnt/store/b), and/or lost", "backed up (b), and/or lost"),
        (f"../{USER}/data", "data"),
        (f"s3://bucket/{USER}/data", "data"),
        (f"{USER}@{HOST}", f"{REDACTED}@{REDACTED}"),
        ("SCANNER7", REDACTED),
        ("on scanner7 at night", f"on {REDACTED} at night"),
        ("https://somebody:password@server.example/x", "https://server.example/x"),
        ("https://server.example/x?token=abc&n=1", f"https://server.example/x?token={REDACTED}&n=1"),
        ("--api-key=abc", f"--api-key={REDACTED}"),
        # what is not private stays as it is
        ("pkg://xrayexp/models/tiny", "pkg://xrayexp/models/tiny"),
        ("google/medgemma-1.5-4b-it", "google/medgemma-1.5-4b-it"),
        ("https://server.example/a/b", "https://server.example/a/b"),
        ("List the findings, e.g. nodule: left / right.", "List the findings, e.g. nodule: left / right."),
        ("ana.lopezia", "ana.lopezia"),
        ("bf16-mixed", "bf16-mixed"),
    ],
)
def test_a_text(value: str, expected: str) -> None:
    assert public(value) == expected


@pytest.mark.parametrize("key", ["token", "hf_token", "hfToken", "api_key", "x-api-key", "APIKey", "password_file"])
def test_secrets_are_left_out(key: str) -> None:
    assert public_config({"a": {key: "abc", "b": 1}}) == {"a": {"b": 1}}


@pytest.mark.parametrize("key", ["max_new_tokens", "key_column", "pad_token_id", "monitor", "keyboard"])
def test_other_keys_stay(key: str) -> None:
    assert public_config({key: 1}) == {key: 1}


def test_paths_are_left_out() -> None:
    assert public_config({"paths": {"output_dir": "x"}, "seed": 0}) == {"seed": 0}


@pytest.mark.parametrize("model", ["tiny", "medgemma15"])
def test_the_config_of_a_run_stays_as_it_is(compose: Callable[..., DictConfig], model: str) -> None:
    """Nothing but paths is private in it, so nothing else may change."""
    config = Settings.from_config(
        compose(f"model={model}", "logger=none", "callbacks=none", "data.cache_dir=cache")
    ).cfg
    expected = {key: value for key, value in config.items() if key != "paths"}
    assert public_config(config) == expected


# The first draw of a session loads tables, which takes its time.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
separators = st.sampled_from(["/", "\\", " ", ":", "@", "=", "-", "_", ",", "://", "~", "'", "(", ")"])
words = st.sampled_from(["data", "x", "C:", "file:", "..", "left"]) | st.text("abcXYZ059é.", min_size=1, max_size=4)
private = st.sampled_from([USER, HOST, HOST.upper(), "scanner7", HOME, "/srv/hospital", r"D:\hospital\x", "~/hospital"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Words and private things with separators of all kinds between them."""
    parts = draw(st.lists(words | private, max_size=5))
    return "".join(part + draw(separators) for part in parts) if draw(st.booleans()) else "/".join(parts)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts() | st.text(max_size=8)
keys = st.text("abc_", min_size=1, max_size=4)
configs = st.dictionaries(
    keys, st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def shape(value: Any) -> Any:
    """The nesting, with every text replaced by one that says so."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return "text" if isinstance(value, str) else value


@patient
@given(configs)
def test_nothing_private_survives_and_the_nesting_stays(config: dict[str, Any]) -> None:
    found = public_config(config)
    assert shape(found) == shape(config)
    for text in strings(found):
        assert not is_path(text)
        for name in (USER, HOST, "scanner7", HOME):
            assert not re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", text, re.IGNORECASE)


@patient
@given(st.text(), st.sampled_from(["/srv/hospital", r"D:\hospital\ward", "~/hospital", "/srv/hospital/"]))
def test_no_path_survives_behind_a_space(before: str, path: str) -> None:
    assert path.strip("/") not in public(f"{before} {path}")


@patient
@example({"_": "data://~/hospital@"})
@given(configs)
def test_what_is_public_stays_public(config: dict[str, Any]) -> None:
    once = public_config(config)
    assert public_config(once) == once

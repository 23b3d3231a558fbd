"""What a page must be to open anywhere, and Chromium without a window to see what its scripts do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.page_runs import EVIL
from xrayexp.webpage import THUMBNAIL_BYTES

needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def browse(text: str, folder: Path, width: int = 500) -> dict[str, Any]:
    """Opens a page as a file, and returns the JSON that its scripts left in <pre id="probe">.

    Args:
        text: HTML; with a script that leaves it.
        folder: for the page and the browser's profile.
        width: of the window; 500 is the least that Chromium makes.
    """
    page = folder / "page.html"
    page.write_text(text, encoding="utf-8")
    command = [
        "chromium",
        *OPTIONS,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        f"--window-size={width},900",
    ]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert probe, done.stderr
    found: dict[str, Any] = json.loads(probe[1])
    return found


class Elements(HTMLParser):
    """Counts elements, and collects what points elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def assert_stands_alone(text: str, with_images: bool = True) -> None:
    """Nothing from elsewhere, no script but the page's own, every id once, small images; what is evil is escaped."""
    found = Elements(text)
    images = re.findall(r"base64,([\w+/=]+)", text)
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", re.sub(r"base64,[\w+/=]+", "", text))
    assert all(target.startswith(("#", "data:image/")) for target in found.targets)
    assert found.names.count("script") == text.count("<script") == 1
    assert len(found.ids) == len(set(found.ids))
    assert bool(images) == with_images
    assert all(len(image) * 3 / 4 <= THUMBNAIL_BYTES for image in images)
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)" in text

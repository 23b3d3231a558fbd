"""Sweeps in several folders, as on several machines, that share one study in a real PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xrayexp.errors import ConfigError
from xrayexp.search.results import COMPLETE, read_sweep
from xrayexp.search.storage import claim_lock, open_storage

TOY = Path(__file__).with_name("toy.py")
TRIALS = 16
OPTIONS = "-c listen_addresses= -c fsync=off"  # a socket in its folder alone


def program(name: str) -> str | None:
    """Debian keeps the server's programs out of the path."""
    found = shutil.which(name) or next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    return None if found is None else str(found)


def user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of its own; its databases are `server + NAME`."""
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="no driver for PostgreSQL: pip install 'psycopg[binary]'")
    with tempfile.TemporaryDirectory(prefix="xrayexp-pg-") as name:  # short: the path of a socket has 107 characters
        folder, owner = Path(name), user()
        if owner is not None:
            shutil.chown(folder, owner)

        def run(*command: str) -> None:
            subprocess.run(command, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL)

        run(initdb, "-D", f"{folder}/data", "-U", "xrayexp", "--auth=trust", "--no-sync")
        run(pg_ctl, "-D", f"{folder}/data", "-o", f"{OPTIONS} -k {folder}", "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://xrayexp@/postgres?host={folder}"
        finally:
            run(pg_ctl, "-D", f"{folder}/data", "-m", "immediate", "stop")


def start(folder: Path, storage: str, name: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, str(TOY), f"hydra.sweep.dir={folder}", f"search.n_trials={TRIALS}", "behaviour=trial",
        f"search.storage='{storage}'", f"search.name={name}",
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(TOY.parents[2])}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def finish(running: list[subprocess.Popen[str]]) -> None:
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), outputs


def check(folders: list[Path]) -> None:
    """Every folder knows of all trials, and each was launched once, in one of the folders."""
    numbers = [{trial.number for trial in read_sweep(folder).in_state(COMPLETE)} for folder in folders]
    complete = max(numbers, key=len)
    assert len(complete) == TRIALS
    launched = Counter(int(path.parent.name) for folder in folders for path in folder.glob("trials/*/outcome.json"))
    assert {number: launched[number] for number in complete} == dict.fromkeys(complete, 1)
    starts = [path for folder in folders for path in folder.glob("trials/*/starts.txt")]
    assert all(len(path.read_text(encoding="utf-8").splitlines()) == 1 for path in starts)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_two_folders_share_a_study_in_postgresql(workers: int, server: str, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    finish([start(folders[number % 2], server, f"study{workers}") for number in range(workers)])
    check(folders[:workers])
    assert all(any(folder.glob("trials/*/outcome.json")) for folder in folders[:workers])  # all had a part in it


@pytest.mark.slow
def test_a_killed_process_leaves_postgresql_to_the_others(server: str, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    killed, other = (start(folder, server, "killed") for folder in folders)
    while not list(folders[0].glob("trials/*/outcome.json")):
        assert killed.poll() is None
        try:
            killed.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    finish([other])
    finish([start(folders[0], server, "killed")])
    check(folders)


def lock(url: str, folder: Path) -> None:
    with claim_lock(url, folder, "study"):
        pass


@pytest.mark.parametrize("use", [lock, open_storage])
def test_a_server_that_is_not_there_is_named(use: Callable[[str, Path], object], tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="no driver for PostgreSQL: pip install 'psycopg[binary]'")
    url = f"postgresql://xrayexp@/postgres?host={tmp_path}"
    with pytest.raises(ConfigError, match=rf"search\.storage: {re.escape(url)} cannot be used"):
        use(url, tmp_path)

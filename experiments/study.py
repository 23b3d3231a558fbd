"""The form that all experiments have, as a program.

    python experiments/NAME/run.py [--quick] [--out DIR] [--jobs N]

Every row is kept as soon as it is computed, and a row that is recorded with the same settings is not computed again.
So a run goes on where it was cut off; another --out measures everything anew.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from experiments.results import Claim, Results, Row, Rows, Values, claims_block, environment, environment_block, fill
from xrayexp.entry import INTERRUPTED, USER_ERROR, prepare_environment
from xrayexp.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
RESULTS, README = "results.json", "README.md"


@dataclass(frozen=True)
class Place:
    """Where a run writes.

    Attributes:
        out: results.json, the figures and the filled README.
        work: what rows need on the way and nobody keeps: models, run folders.
        recorded: whether `out` is the experiment's own folder, whose results belong to the repository.
        models: models that are too large to be made for every run; None where an experiment keeps none.
    """

    out: Path
    work: Path
    recorded: bool
    models: Path | None = None


Compute = Callable[[Row, Place], Values]


@dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
        folder: where its run.py lies.
        plan: the rows without their values, in order; given True, few and small ones for --quick.
        compute: the values of one row.
        claims: from the values of all rows and nothing else; none where these are not of the hardware that it is about.
        blocks: Markdown for the README's marked blocks, by name; "claims" and "environment" come with the form.
        draw: writes the figures into a folder.
        threads: compute threads of a row.
        requires: packages of its requirements.txt without which no row can be computed.
        isolated: whether rows are independent. If so each has a process of its own, and --jobs runs several at once.
        models: where it keeps models that outlive a run, unless --model-dir names another folder; None if it has none.
        needs_gpu: whether only a GPU's results can be recorded: the README says so until there are some.
    """

    folder: Path
    plan: Callable[[bool], list[Row]]
    compute: Compute
    claims: Callable[[Rows], list[Claim]]
    blocks: Callable[[Rows], dict[str, str]]
    draw: Callable[[Rows, Path], None] | None = None
    threads: int = 1
    isolated: bool = True
    models: Path | None = None
    needs_gpu: bool = False
    requires: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.folder.name

    def readme(self, results: Results) -> str:
        """The experiment's README with the numbers of `results`."""
        blocks = {"claims": claims_block(results.claims), "environment": environment_block(results.environment)}
        return fill((self.folder / README).read_text(encoding="utf-8"), blocks | self.blocks(results.values))


@dataclass(frozen=True)
class Options:
    """What one experiment's program can be told beyond the common options.

    Attributes:
        add: puts them into the parser.
        study: the experiment as all options describe it; raises UserError where they cannot be met.
    """

    add: Callable[[argparse.ArgumentParser], None]
    study: Callable[[argparse.Namespace], Study]


def main(study: Study, further: Options | None = None) -> None:
    """Runs an experiment as the command line says; ends with exit code 2 for what the user can fix."""
    prepare_environment()
    parser = argparse.ArgumentParser(prog=f"experiments/{study.name}/run.py")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few images, to see that it works")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (default: the experiment's own)")
    if study.isolated:
        parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows that are computed at the same time")
    if study.models is not None:
        default = f"{study.models}; with --quick inside the results"
        parser.add_argument(
            "--model-dir", type=Path, metavar="DIR", help=f"folder of the models that it builds (default: {default})"
        )
    common = set(vars(parser.parse_args([])))
    if further is not None:
        further.add(parser)
    options = parser.parse_args()
    if study.isolated and options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("xrayexp").setLevel(logging.INFO)
    place = _place(study, options.out, options.quick)
    if study.models is not None:
        usual = place.work / "models" if options.quick else study.models
        place = replace(place, models=(options.model_dir or usual).expanduser().resolve())
    if place.recorded and options.quick:
        parser.error("--quick does not write over the recorded results: give another --out")
    command = f"python experiments/{study.name}/run.py" + " --quick" * options.quick
    own = {name: given for name, given in vars(options).items() if name not in common}
    command += "".join(f" --{name} {given}" for name, given in own.items() if given != parser.get_default(name))
    try:
        if further is not None:
            study = further.study(options)
        require_packages(study)
        results = run(
            study, place, command, quick=options.quick, jobs=0 if options.quick else getattr(options, "jobs", 0)
        )
    except UserError as error:
        parser.exit(USER_ERROR, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, "interrupted: the rows that are finished are kept\n")
    for claim in results.claims:
        verdict = "holds" if claim["holds"] else "DOES NOT HOLD"
        print(f"{claim['name']}: {claim['value']:.4g}, {claim['direction']} {claim['bound']:g}: {verdict}")
    print(f"written to {place.out}")


def require_packages(study: Study) -> None:
    """Raises UserError when a package is missing that only this experiment needs."""
    missing = [name for name in study.requires if find_spec(name) is None]
    if missing:
        file = f"experiments/{study.name}/requirements.txt"
        raise UserError(
            f"{', '.join(missing)} is not installed, which only this experiment needs: pip install -r {file}"
        )


def _place(study: Study, out: Path | None, quick: bool) -> Place:
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="xrayexp-")) if quick else study.folder
    out = out.resolve()
    if out == study.folder:
        return Place(out, ROOT / "outputs" / "experiments" / study.name, recorded=True)
    return Place(out, out / "work", recorded=False)


def run(study: Study, place: Place, command: str, *, quick: bool, jobs: int) -> Results:
    """Computes the rows that are not recorded, then the claims, the figures and the README.

    Args:
        study: the experiment.
        place: where it writes.
        command: how it can be run again, for results.json.
        quick: whether to do with few and small rows.
        jobs: how many rows are computed at once, each in a process of its own; 0: one by one in this process.

    Raises:
        UserError: a row's own; or recorded rows were computed in another environment.
    """
    file, plan = place.out / RESULTS, study.plan(quick)
    recorded = Results.read(file) if file.exists() else None
    done = {row.key: row for row in recorded.rows if replace(row, values={}) in plan} if recorded else {}
    missing = [row for row in plan if row.key not in done]
    print(f"{len(done)} of {len(plan)} rows are recorded already", flush=True)
    current = environment(study.threads)
    if recorded and done:
        current = _same_environment(recorded.environment, current, file) if missing else recorded.environment
    results = Results(study.name, command, current)
    place.out.mkdir(parents=True, exist_ok=True)
    for row in _computed(study.compute, missing, place, jobs):
        done[row.key] = row
        results = replace(results, rows=tuple(done[row.key] for row in plan if row.key in done))
        results.write(file)
    results = replace(results, rows=tuple(done[row.key] for row in plan))
    results = replace(results, claims=tuple(claim.to_json() for claim in study.claims(results.values)))
    results.write(file)
    if study.draw is not None:
        study.draw(results.values, place.out)
    (place.out / README).write_text(study.readme(results), encoding="utf-8")
    return results


def _same_environment(recorded: Values, current: Values, file: Path) -> Values:
    """The current environment, once it is sure that rows of both may stand side by side."""
    differ = [name for name in current if name != "commit" and current[name] != recorded.get(name)]
    if differ:
        was_is = "; ".join(f"{name} was {recorded.get(name)}, is {current[name]}" for name in differ)
        raise UserError(f"the rows in {file} belong to another environment ({was_is}): remove it or give another --out")
    return current


def _computed(compute: Compute, rows: Sequence[Row], place: Place, jobs: int) -> Iterator[Row]:
    """The rows with their values, as they are ready."""
    started = time.monotonic()
    for row in _in_turn(compute, rows, place) if jobs == 0 else _in_processes(compute, rows, place, jobs):
        print(f"{row.key}: done after {time.monotonic() - started:.0f} s", flush=True)
        yield row


def _in_turn(compute: Compute, rows: Sequence[Row], place: Place) -> Iterator[Row]:
    for row in rows:
        yield _with_values(compute, row, place)


def _in_processes(compute: Compute, rows: Sequence[Row], place: Place, jobs: int) -> Iterator[Row]:
    """A fresh process for each row: its CPU time and memory are its own, and nothing is left behind for the next."""

    def in_process(row: Row) -> Row:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(_with_values, compute, row, place).result()

    with ThreadPoolExecutor(jobs) as threads:
        futures = [threads.submit(in_process, row) for row in rows]
        try:
            for future in as_completed(futures):
                if future.exception() is None:
                    yield future.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)  # after Ctrl+C no other row begins
    for future in futures:
        future.result()  # raises what went wrong, once the other rows are kept


def _with_values(compute: Compute, row: Row, place: Place) -> Row:
    try:
        return replace(row, values=compute(row, place))
    except UserError as error:
        raise UserError(f"{row.key}: {error}") from None

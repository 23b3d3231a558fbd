"""Which image is in which split, and why: what a run trains, validates and tests on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import pandas as pd

from xrayexp.data import table as columns
from xrayexp.data.examples import Example, examples_from_table, read_findings
from xrayexp.data.splits import assign_splits, check_no_leakage, split_balance, split_groups
from xrayexp.data.synthetic import synthetic_rows
from xrayexp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from xrayexp.data.config import DataSection
    from xrayexp.data.examples import Source

log = logging.getLogger(__name__)

TRAIN, VALIDATION = "train", "validation"
UNUSED = "unused"
FREQUENT = 100  # images of a finding whose imbalance is worth a line


@dataclass(frozen=True)
class Partition:
    """The splits of a run.

    Attributes:
        examples: of each split, in the table's order; synthetic ones last.
        rows: ImageID, PatientID, StudyID and `split` of every image; "unused" for those that no split takes.
        balance: of `split_balance`, over all selected images.
    """

    examples: dict[str, list[Example]]
    rows: pd.DataFrame
    balance: pd.DataFrame

    @property
    def synthetic_share(self) -> float:
        """Of the training images."""
        training = self.examples[TRAIN]
        return sum(example.provenance is not None for example in training) / len(training)

    def write(self, rows: Path, balance: Path) -> None:
        """Writes both tables: who is in which split as Parquet, how evenly the findings are spread as CSV."""
        self.rows.to_parquet(rows, index=False, compression="zstd")
        self.balance.to_csv(balance, index=False)


def partition(section: DataSection, source: Source, synthetic: Source | None) -> Partition:
    """Splits a source's images.

    Args:
        section: the data config.
        source: of the real images.
        synthetic: of generated ones, for training; None for none.

    Raises:
        DataError: when a split that has a share is empty, or shares a patient, study or report with another.
    """
    table = source.table()
    if table.empty:
        raise DataError(f"data={section.name} has no usable image")
    if columns.FINDINGS not in table:
        table = table.assign(**{columns.FINDINGS: read_findings(table)})
    if columns.GROUP not in table:
        table = table.assign(**{columns.GROUP: split_groups(table)})
    shares = section.split.shares
    split = assign_splits(table, shares, section.split.seed, section.split.method)
    check_no_leakage(table, split)
    balance = split_balance(table[columns.FINDINGS], split, shares)
    _log_imbalance(balance, shares)
    used = split.where(_may_stand_in(table, split, section.split.evaluate_on), UNUSED)
    rows = {name: _subset(table[used == name], section.max_images.get(name), section.split.seed) for name in shares}
    for name, chosen in rows.items():
        if chosen.empty and shares[name] > 0:
            kept = "" if section.split.evaluate_on is None else f", data.split.evaluate_on={section.split.evaluate_on}"
            raise DataError(f"data={section.name}: the {name} split is empty ({len(table)} images in all{kept})")
    if synthetic is not None and section.synthetic is not None:
        rows[TRAIN] = _with_synthetic(rows[TRAIN], table, split, synthetic, section)
    return Partition(
        {name: examples_from_table(chosen) for name, chosen in rows.items()}, _listed(table, rows), balance
    )


def check_not_trained_on(rows: pd.DataFrame, examples: Sequence[Example], split: str) -> None:
    """Raises DataError for an example whose patient or study was trained on, or chose the best checkpoint.

    Args:
        rows: `Partition.rows` of the run that trained.
        examples: to be evaluated.
        split: their name, for the message.
    """
    used = {TRAIN, VALIDATION} - {split}
    training = rows[rows["split"].isin(used)]
    for what, ids, column in (
        ("patients", {example.patient_id for example in examples}, columns.PATIENT),
        ("studies", {example.study_id for example in examples}, columns.STUDY),
    ):
        if known := sorted(ids & set(training[column])):
            raise DataError(
                f"{len(known)} {what} of the {split} split were trained on or validated with: {columns.listed(known)}. "
                "The data are not those that the run was trained with: compare its splits.parquet."
            )


def _may_stand_in(table: pd.DataFrame, split: pd.Series[str], evaluate_on: list[str] | None) -> pd.Series[bool]:
    """Whether a row's labels are good enough for its split."""
    if evaluate_on is None:
        return pd.Series(True, index=table.index)
    return (split == TRAIN) | table[columns.METHOD].isin(evaluate_on)


def _subset(rows: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """At most `most` rows in the table's order, chosen by a hash of their ImageID.

    So the choice is spread over the whole table, depends on no other row, and a smaller one is part of a larger.
    """
    if most is None or len(rows) <= most:
        return rows
    key = str(seed).encode()
    hashes = rows[columns.IMAGE].map(lambda image: blake2b(str(image).encode(), key=key, digest_size=8).hexdigest())
    return rows[hashes.rank(method="first") <= most]


def _with_synthetic(
    training: pd.DataFrame, table: pd.DataFrame, split: pd.Series[str], synthetic: Source, section: DataSection
) -> pd.DataFrame:
    """The training rows and as many synthetic ones as `max_share` lets in."""
    assert section.synthetic is not None
    made = synthetic_rows(synthetic, table)
    split_of = split.groupby(table[columns.GROUP]).first()
    usable = made[made[columns.GROUP].map(split_of).fillna(TRAIN) == TRAIN]
    share = section.synthetic.max_share
    most = int(len(training) * share / (1 - share))
    chosen = _subset(usable, most, section.split.seed)
    log.info(
        "synthetic images: %s of %s in training, %.1f %% of it (at most %.1f %%); %s of validation or test patients",
        f"{len(chosen):,}", f"{len(made):,}", 100 * len(chosen) / (len(chosen) + len(training)), 100 * share,
        f"{len(made) - len(usable):,}",
    )  # fmt: skip
    return pd.concat([training, chosen], ignore_index=True)


def _listed(table: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The split of every row, real or synthetic."""
    identity = [columns.IMAGE, columns.PATIENT, columns.STUDY]
    taken = [chosen[identity].assign(split=name) for name, chosen in rows.items()]
    used = pd.concat(taken, ignore_index=True)
    rest = table.loc[~table[columns.IMAGE].isin(used[columns.IMAGE]), identity].assign(split=UNUSED)
    return pd.concat([used, rest], ignore_index=True)


def _log_imbalance(balance: pd.DataFrame, shares: Mapping[str, float]) -> None:
    frequent = balance[balance["images"] >= FREQUENT]
    if frequent.empty:
        return
    worst = frequent.iloc[int(frequent["imbalance"].to_numpy().argmax())]
    where = ", ".join(f"{worst[name] / worst['images']:.1%} {name}" for name in shares)
    log.info("least evenly split of the findings with %d images or more: %s (%s)", FREQUENT, worst["finding"], where)

"""MIMIC-CXR-JPG 2.0.0 (Johnson et al. 2019): 377,110 images; CheXpert's labeler read the reports."""

from __future__ import annotations

from collections.abc import Iterator

from xrayexp.data.external.chexpert_labels import Protocol
from xrayexp.data.external.test_set import LabelledImage, TestSet, read_csv
from xrayexp.data.vocabulary import Vocabulary

FRONTAL = ("PA", "AP")
PREFIX = "mimic-cxr-2.0.0-"


class MIMICSource(TestSet):
    """The frontal images of one of MIMIC-CXR-JPG's splits whose study has labels.

    Args:
        root: the folder with mimic-cxr-2.0.0-chexpert.csv, -split.csv and -metadata.csv (or .csv.gz), and `files`.
        split: test, validate or train.
        classes: see `xrayexp.data.external.chexpert_labels.Protocol`.
        uncertain: likewise.
        max_megapixels: larger images are refused.
    """

    title = "MIMIC-CXR-JPG"
    page = "https://physionet.org/content/mimic-cxr-jpg/"
    method = "labeler"

    def __init__(
        self,
        root: str | None,
        split: str = "test",
        classes: int = 14,
        uncertain: str = "ones",
        max_megapixels: float | None = None,
    ) -> None:
        super().__init__(root, max_megapixels)
        self.split, self.protocol = split, Protocol(classes, uncertain)

    @property
    def vocabulary(self) -> Vocabulary:
        """The labels of the protocol."""
        return self.protocol.vocabulary

    def read(self) -> Iterator[LabelledImage]:
        """One row per frontal image of the split; images of studies that the labeler did not read are left out."""
        labels, splits, metadata = (
            self.file(f"{PREFIX}{name}.csv", f"{PREFIX}{name}.csv.gz") for name in ("chexpert", "split", "metadata")
        )
        stated = {
            row["study_id"]: row for row in read_csv(labels, ["study_id", *self.protocol.classes]).to_dict("records")
        }
        views = read_csv(metadata, ["dicom_id", "ViewPosition"])
        frontal = set(views["dicom_id"][views["ViewPosition"].isin(FRONTAL)])
        images = read_csv(splits, ["dicom_id", "study_id", "subject_id", "split"])
        for row in images[images["split"] == self.split].to_dict("records"):
            image, study, patient = f"{row['dicom_id']}.jpg", row["study_id"], row["subject_id"]
            if row["dicom_id"] not in frontal or study not in stated:
                continue
            findings, unknown = self.protocol.findings(stated[study], f"{labels}, study {study}")
            within = f"p{patient[:2]}/p{patient}/s{study}/{image}"
            yield LabelledImage(image, patient, study, findings, (f"files/{within}", within, image), unknown=unknown)

"""From an answer to what is scored: read in its form, restated in the labels of its data set, boxes put into pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from xrayexp.data.examples import BoxedSource, vocabulary_of
from xrayexp.data.preprocessing import border_crop
from xrayexp.data.report import Report, write_report
from xrayexp.metrics.samples import ScoredReport

if TYPE_CHECKING:
    from xrayexp.data.answers import AnswerForm
    from xrayexp.data.box_answers import BoxAnswer
    from xrayexp.data.boxes import FindingBox
    from xrayexp.data.examples import Example, Source
    from xrayexp.data.preprocessing import PreprocessingSection


class Judge:
    """Makes scored reports of answers about the images of one source.

    Args:
        source: of the images and their truth.
        form: of the answers.
        preprocessing: what was done to the images that the model saw.
        names: the findings that the source can state.
    """

    def __init__(
        self, source: Source, form: AnswerForm, preprocessing: PreprocessingSection, names: Iterable[str]
    ) -> None:
        self.source, self.form, self.preprocessing, self.names = source, form, preprocessing, tuple(names)
        self.vocabulary = vocabulary_of(source)

    def scored(self, example: Example, text: str) -> ScoredReport:
        """An answer beside its truth."""
        reading = self.form.read(text, self.names)
        scored = self.stated(example, reading.report, text)
        return (
            self.with_boxes(scored, example, self.pixels(reading.boxes, example)) if self.form.draws_boxes else scored
        )

    def stated(self, example: Example, report: Report | None, text: str = "") -> ScoredReport:
        """A report that was read already beside its truth; None for one that could not be."""
        if report is not None and self.vocabulary is not None:
            report = self.vocabulary.restated(report, example.unknown)
        return ScoredReport(
            image_id=example.image_id,
            patient_id=example.patient_id,
            truth=Report(example.findings),
            predicted=report,
            truth_text=example.text or write_report(example.findings),
            predicted_text=text,
        )

    def with_boxes(self, scored: ScoredReport, example: Example, drawn: tuple[FindingBox, ...]) -> ScoredReport:
        """The same with the boxes that were drawn, in the file's pixels, and the true ones if the source has any."""
        true = self.source.boxes(example.image_id) if isinstance(self.source, BoxedSource) else None
        return scored if true is None else replace(scored, true_boxes=true, predicted_boxes=self._named(drawn, example))

    def pixels(self, answer: BoxAnswer | None, example: Example) -> tuple[FindingBox, ...]:
        """Boxes as a model wrote them, in the file's pixels; none where the source does not know its images' sizes."""
        if answer is None or not isinstance(self.source, BoxedSource):
            return ()
        # The part of the file that the model saw.
        seen = border_crop(self.source.image(example.image_id)) if self.preprocessing.crop_borders else None
        return answer.located(self.source.shape(example.image_id), seen)

    def _named(self, drawn: tuple[FindingBox, ...], example: Example) -> tuple[FindingBox, ...]:
        """Boxes under the names of the data set's labels; those that no label covers are left out."""
        if self.vocabulary is None:
            return drawn
        named = [(self.vocabulary.broader.get(box.finding), box) for box in drawn]
        return tuple(replace(b, finding=name) for name, b in named if name is not None and name not in example.unknown)

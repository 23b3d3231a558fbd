"""From an answer to what is scored: read in its form, restated in the labels of its data set, boxes put into pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    from xrayexp.training.generation import Generated


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

    def answered(self, example: Example, answer: Generated) -> ScoredReport:
        """A model's answer beside its truth, with the probabilities of the findings that it names."""
        scored, spans = self.scored(example, answer.text), self.form.read(answer.text, self.names).spans
        if answer.samples:
            scored = self.with_samples(scored, example, answer.samples)
        if spans is None:
            return scored
        return self.with_confidence(scored, {name: answer.probability(*span) for name, span in spans.items()})

    def with_confidence(self, scored: ScoredReport, confidence: Mapping[str, float]) -> ScoredReport:
        """The same with probabilities by finding; of several findings that a label covers, that of the surest."""
        if self.vocabulary is None:
            return replace(scored, confidence=dict(confidence))
        found: dict[str, float] = {}
        for name, probability in confidence.items():
            for label in self.vocabulary.broader.get(name, ()):
                found[label] = max(probability, found.get(label, 0.0))
        return replace(scored, confidence=found)

    def with_samples(self, scored: ScoredReport, example: Example, texts: Sequence[str]) -> ScoredReport:
        """The same with the share of further answers that name a finding; one that cannot be read names none."""
        reports = [self._restated(example, self.form.read(text, self.names).report) for text in texts]
        times = Counter(name for report in reports if report is not None for name in report.names)
        return replace(scored, sampled={name: times[name] / len(texts) for name in sorted(times)})

    def scored(self, example: Example, text: str) -> ScoredReport:
        """An answer of which nothing but the text is known beside its truth."""
        reading = self.form.read(text, self.names)
        scored = self.stated(example, reading.report, text)
        return (
            self.with_boxes(scored, example, self.pixels(reading.boxes, example)) if self.form.draws_boxes else scored
        )

    def stated(self, example: Example, report: Report | None, text: str = "") -> ScoredReport:
        """A report that was read already beside its truth; None for one that could not be."""
        return ScoredReport(
            image_id=example.image_id,
            patient_id=example.patient_id,
            truth=Report(example.findings),
            predicted=self._restated(example, report),
            truth_text=example.text or write_report(example.findings),
            predicted_text=text,
        )

    def _restated(self, example: Example, report: Report | None) -> Report | None:
        """In the labels of the data set."""
        if report is None or self.vocabulary is None:
            return report
        return self.vocabulary.restated(report, example.unknown)

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
        named = ((name, box) for box in drawn for name in self.vocabulary.broader.get(box.finding, ()))
        return tuple(replace(box, finding=name) for name, box in named if name not in example.unknown)

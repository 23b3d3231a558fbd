"""The config section `prompt`: how a model that was not trained here is asked, and how its answers are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FINDINGS = "{findings}"


@dataclass
class PromptSection:
    """`prompt`: a question and the form of its answers, for one family of models.

    Attributes:
        name: short name, for tables.
        text: what is asked beside every image; `{findings}` stands for the names that the data set can state.
        form: the `_target_` and arguments of a `xrayexp.data.answers.AnswerForm`.
        max_new_tokens: where an answer that does not end is cut off.
    """

    name: str
    text: str
    form: dict[str, Any]
    max_new_tokens: int

    def problems(self) -> list[str]:
        """What is out of range, one sentence each."""
        found = [] if self.text.strip() else ["prompt.text is empty: say what the model is asked"]
        if self.max_new_tokens < 1:
            found.append(f"prompt.max_new_tokens must be at least 1, not {self.max_new_tokens}")
        return found

    def asked(self, names: Iterable[str]) -> str:
        """The question about a data set that can state `names`."""
        return self.text.replace(FINDINGS, ", ".join(sorted(names)))

"""What a policy answers: a few prompts with the answer of the start, the answer of now, and the judge's verdict."""

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from llm_bridge.text.encoding import printable

SHOWN, LONGEST = 3, 240  # samples of a table, and characters of a text in it
COLUMNS = ("prompt", "start", "now", "preferred")


class Sample(NamedTuple):
    """A prompt with two answers.

    Attributes:
        prompt: as the judge sees it.
        start: the answer of the policy that training began with.
        now: that of what would be exported now.
        preference: P(now is preferred to start), by the judge; None where it had no answer.
    """

    prompt: str
    start: str
    now: str
    preference: float | None

    @property
    def verdict(self) -> str:
        """In words, with the probability."""
        if self.preference is None:
            return "no verdict"
        name = "tie" if self.preference == 0.5 else "now" if self.preference > 0.5 else "start"
        return f"{name} ({self.preference:.2f})"


class SampleTable(NamedTuple):
    """The first samples of a round, for a console, a tracker or a page.

    Attributes:
        title: says which round it is.
        rows: a text for each of `COLUMNS`, on one line each.
    """

    title: str
    rows: list[tuple[str, str, str, str]]

    def rich(self) -> Table:
        """For a console."""
        shown = Table(title=self.title, box=box.HORIZONTALS, show_lines=True, title_justify="left")
        for name in COLUMNS:
            shown.add_column(name, overflow="fold", ratio=1 if name == "preferred" else 3)
        for row in self.rows:
            shown.add_row(*map(Text, row))
        return shown

    def markdown(self) -> str:
        """For TensorBoard."""
        lines = [COLUMNS, ("---",) * len(COLUMNS), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def table(number: int, samples: Sequence[Sample]) -> SampleTable:
    """The first samples of a round as a table, long texts cut."""
    cells = [(_cut(one.prompt), _cut(one.start), _cut(one.now), one.verdict) for one in samples[:SHOWN]]
    return SampleTable(f"answers {when(number)}", cells)


def when(number: int) -> str:
    """After how many rounds, in words."""
    return f"after {number} round{'s' * (number != 1)}" if number else "before the first round"


def _cut(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."

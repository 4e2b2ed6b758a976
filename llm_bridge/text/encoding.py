"""Rows as token ids with masks, checked against the model's limits, and a few of them shown as the model will see them.

A mask marks the tokens that are trained: the answer and what ends it. It follows from where ids were put (see
`llm_bridge.text.tokenizer`), never from what they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llm_bridge.model.architecture import BridgeError
from llm_bridge.text.data import DataError, Dataset, OnBadRow, Row
from llm_bridge.text.tokenizer import Tokenizer, text_of

SHOWN = 3
SHOWN_IDS, SHOWN_TEXT = 24, 400


@dataclass(frozen=True)
class Example:
    """A row as the model sees it.

    Attributes:
        row: where it comes from.
        ids: token ids of the prompt, and of an answer behind it.
        n_prompt: how many of them are the prompt's.
    """

    row: Row
    ids: tuple[int, ...]
    n_prompt: int

    @property
    def mask(self) -> tuple[bool, ...]:
        """Which tokens are trained: those behind the prompt."""
        return (False,) * self.n_prompt + (True,) * (len(self.ids) - self.n_prompt)


class Encoded(NamedTuple):
    """A dataset for one model.

    Attributes:
        examples: one a row; of preferences, pairs of the chosen and the rejected.
        skipped: what was wrong with the rows that were left out, by file and by model.
    """

    examples: list[Any]
    skipped: list[str]


def prompts(dataset: Dataset, tokenizer: Tokenizer, *, longest: int, on_bad_row: OnBadRow = "abort") -> Encoded:
    """The prompts of a dataset.

    Args:
        dataset: of any type.
        tokenizer: the model's.
        longest: most tokens that a prompt may have.
        on_bad_row: whether one that cannot be used stops everything, or is left out.

    Raises:
        DataError: a prompt is too long or the chat template refuses it; with file and line. Or all of them are.
    """

    def encode(row: Row) -> tuple[Example]:
        ids = tokenizer.prompt(row.prompt, **row.chat_template_kwargs)
        return (Example(row, tuple(ids), len(ids)),)

    groups, skipped = _encoded(dataset, encode, longest, on_bad_row)
    return Encoded([example for (example,) in groups], skipped)


def answers(dataset: Dataset, tokenizer: Tokenizer, *, longest: int, on_bad_row: OnBadRow = "abort") -> Encoded:
    """The answers of every row, the chosen one first, each behind its prompt and ended once (`Tokenizer.completed`).

    Args:
        dataset: of preferences, or of single answers.
        tokenizer: the model's.
        longest: most tokens of a prompt with an answer.
        on_bad_row: as in `prompts`.

    Raises:
        DataError: as in `prompts`; or an answer has an end token before its end.
    """

    def encode(row: Row) -> tuple[Example, ...]:
        found = []
        for answer in filter(None, (row.chosen, row.rejected)):
            if tokenizer.ends_inside(answer if isinstance(answer, str) else text_of(answer)):
                raise BridgeError("an answer has an end token before its end")
            ids, n_prompt = tokenizer.completed(row.prompt, answer, **row.chat_template_kwargs)
            found.append(Example(row, tuple(ids), n_prompt))
        return tuple(found)

    return _encoded(dataset, encode, longest, on_bad_row)


def preview(examples: Sequence[Example], tokenizer: Tokenizer, n: int = SHOWN) -> list[str]:
    """Lines that show the first examples: text with special tokens, ids, and the mask where anything is trained."""
    lines = []
    for example in examples[:n]:
        shown, more = example.ids[:SHOWN_IDS], len(example.ids) - SHOWN_IDS
        rest = f" ... {more} more" if more > 0 else ""
        text = printable(tokenizer.decode(example.ids, special=True))
        cut = text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]} ... {len(text) - SHOWN_TEXT} characters more"
        n_trained = len(example.ids) - example.n_prompt
        lines += [
            f"{example.row.where}: {example.n_prompt} prompt tokens" + f", {n_trained} trained" * bool(n_trained),
            f"  text {cut}",
            f"  ids  {' '.join(map(str, shown))}{rest}",
        ]
        if n_trained:
            lines.append(f"  mask {' '.join(str(int(trained)) for trained in example.mask[:SHOWN_IDS])}{rest}")
    return lines


def printable(text: str) -> str:
    """Text on one line, with nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _encoded(
    dataset: Dataset, encode: Callable[[Row], tuple[Example, ...]], longest: int, on_bad_row: OnBadRow
) -> Encoded:
    found, skipped = [], list(dataset.skipped)
    for row in dataset.rows:
        try:
            group = encode(row)
            if (length := max(len(example.ids) for example in group)) > longest:
                raise BridgeError(f"has {length} tokens, more than the {longest} that it may have")
        except BridgeError as error:
            if on_bad_row == "abort":
                raise DataError(f"{row.where}: {error}") from None
            skipped.append(f"{row.where}: {error}")
        else:
            found.append(group)
    if not found:
        raise DataError(f"no row can be used, the first is bad because: {skipped[0]}")
    return Encoded(found, skipped)

"""Prompts and preferences from files: JSON Lines (also .gz) and Parquet, in the dataset types of TRL.

| type | columns |
| --- | --- |
| prompt-only | `prompt` |
| preference | `prompt`, `chosen`, `rejected` |
| preference, implicit prompt | `chosen`, `rejected`, which begin with the same prompt |

A value is text, or a conversation: a list of messages `{"role": ..., "content": ...}`. A preference row may say in
`p_chosen` with which probability `chosen` is preferred (1 if it does not). Further columns are ignored, but for those
that would change what a prompt means (`tools`, `images`), which are refused.

Every complaint names file and line (row, in Parquet) and never repeats what the row says. Which rows a round takes is a
function of the seed and of how many were taken before, so a run resumes where it was without any state.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from jaxtyping import Int

from llm_bridge.architecture import BridgeError

Message = dict[str, str]
Prompt = str | tuple[Message, ...]
Comparison = tuple[Any, Any, Any, float]  # texts, or tuples of token ids
OnBadRow = Literal["abort", "skip"]

MAX_LINE_BYTES = 10_000_000
BOM = b"\xef\xbb\xbf"
JSON_LINES, PARQUET = (".jsonl", ".jsonl.gz", ".json", ".json.gz"), (".parquet",)
REFUSED = ("tools", "images", "image", "videos", "audios")


class DataError(BridgeError):
    """A row or a file that cannot be used; the message says where and why, without the row's text."""


class _BadRow(ValueError):
    """What is wrong with a row."""


@dataclass(frozen=True)
class Row:
    """One prompt, perhaps with two answers of which one is preferred.

    Attributes:
        where: file and line.
        prompt: text, or the messages of a conversation.
        chosen, rejected: the answers; None in a prompt-only row.
        p_chosen: probability that `chosen` is preferred.
    """

    where: str
    prompt: Prompt
    chosen: str | None = None
    rejected: str | None = None
    p_chosen: float = 1.0

    @property
    def text(self) -> str:
        """The prompt as a judge reads it; turns of a conversation begin with their roles, a single one does not."""
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) == 1:
            return self.prompt[0]["content"]
        return "\n\n".join(f"{message['role']}: {message['content']}" for message in self.prompt)

    @property
    def comparison(self) -> Comparison:
        """The prompt and both answers as a judge reads them, and the probability that the first one is preferred."""
        if self.chosen is None or self.rejected is None:
            raise DataError(f"{self.where}: expected two answers, got a prompt alone")
        return self.text, self.chosen, self.rejected, self.p_chosen


@dataclass(frozen=True)
class Dataset:
    """Rows of a file.

    Attributes:
        rows: those that can be used, in the file's order.
        skipped: what was wrong with the others; empty unless bad rows are skipped.
    """

    rows: tuple[Row, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, seed: int, position: int, size: int) -> tuple[Row, ...]:
        """The rows that come next, see `take`."""
        return tuple(self.rows[i] for i in take(len(self.rows), [seed], position, size))


def load(
    path: str | os.PathLike[str],
    *,
    kind: Literal["prompts", "preferences"] = "prompts",
    on_bad_row: OnBadRow = "abort",
) -> Dataset:
    """Read a dataset.

    Args:
        path: a file that ends in .jsonl, .json (one object a line), either with .gz, or .parquet.
        kind: whether rows need two answers; prompts of preference rows are prompts as well.
        on_bad_row: stop at the first, or leave it out and say so in `Dataset.skipped`.

    Raises:
        DataError: the file cannot be read, a row is bad, or there are none.
    """
    path = Path(path)
    rows: list[Row] = []
    skipped: list[str] = []
    for where, value in _values(path):
        try:
            row = _row(where, _parsed(value), kind)
            rows.append(_alike(row, rows[0] if rows else row))
        except _BadRow as error:
            if on_bad_row == "abort":
                raise DataError(f"{where}: {error}") from None
            skipped.append(f"{where}: {error}")
    if not rows:
        reason = f" that can be used ({len(skipped)} bad, the first is {skipped[0]})" if skipped else ""
        raise DataError(f"{path}: has no row{reason}")
    return Dataset(tuple(rows), tuple(skipped))


def take(n: int, seed: Sequence[int], position: int, size: int) -> Int[np.ndarray, " size"]:
    """Which of n rows are next, after `position` have been taken: parts of one random order after another.

    A function of its arguments, so a resumed run goes on where it was.
    """
    places = np.arange(position, position + size)
    orders = {epoch: np.random.default_rng([*seed, epoch]).permutation(n) for epoch in {*(places // n).tolist()}}
    return np.array([orders[place // n][place % n] for place in places.tolist()], np.int64)


# ------------------------------------------------------------------------------------------------ files


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """Where a row is, and its bytes or its columns."""
    name = path.name.lower()
    try:
        if name.endswith(JSON_LINES):
            yield from _lines(path)
        elif name.endswith(PARQUET):
            yield from _parquet(path)
        else:
            raise DataError(f"{path}: expected a file that ends in {' or '.join((*JSON_LINES, *PARQUET))}")
    except FileNotFoundError:
        raise DataError(f"{path}: not there") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Lines that are not blank, cut where they are longer than any row may be."""
    compressed = path.name.lower().endswith(".gz")
    with cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb") as file:
        number, first = 0, True
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE_BYTES)
            if line.strip():
                if first and line.lstrip().startswith(b"["):
                    wanted = "expected one object a line: jq -c '.[]' old.json > new.jsonl writes them so"
                    raise DataError(f"{path}:{number}: begins a JSON array, {wanted}")
                first = False
                yield f"{path}:{number}", line


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs pyarrow: pip install 'magnetic-mirror[data]'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (ArrowException, UnicodeDecodeError) as error:
        kind = type(error).__name__
        raise DataError(f"{path}: cannot be read as Parquet ({kind}, after row {number})") from None


def _parsed(value: bytes | dict[str, Any]) -> Mapping[str, Any]:
    """A line as an object."""
    if isinstance(value, dict):
        return value
    if len(value.rstrip(b"\r\n")) > MAX_LINE_BYTES:
        raise _BadRow(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    if value.startswith(BOM):
        raise _BadRow("the file begins with a byte order mark; save it as UTF-8 without one")
    try:
        found = json.loads(value.decode("utf-8"), object_pairs_hook=_object)
    except _BadRow:
        raise
    except UnicodeDecodeError as error:
        raise _BadRow(f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise _BadRow(f"not JSON: {error.msg}, column {error.pos + 1}") from None
    except (RecursionError, ValueError):
        raise _BadRow("JSON that is nested too deeply, or has a number that is too long") from None
    if not isinstance(found, dict):
        raise _BadRow(f"expected a JSON object a line, got {_name(found)}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys stand in it once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _BadRow(f"the key {_short(twice)} stands in an object twice")
    return found


# ------------------------------------------------------------------------------------------------ rows


def _row(where: str, columns: Mapping[str, Any], kind: str) -> Row:
    if refused := [name for name in REFUSED if columns.get(name)]:
        raise _BadRow(f"the column {refused[0]!r} is not supported")
    given = {name: columns[name] for name in ("prompt", "chosen", "rejected") if columns.get(name) is not None}
    if "prompt" not in given and {"chosen", "rejected"} <= set(given):
        given = _explicit(_value(given["chosen"], "chosen"), _value(given["rejected"], "rejected"))
    if "prompt" not in given:
        raise _BadRow(f"expected a column 'prompt', got {_listed(columns)}")
    prompt = _prompt(_value(given["prompt"], "prompt"))
    if kind == "prompts":
        return Row(where, prompt)
    if missing := [name for name in ("chosen", "rejected") if name not in given]:
        raise _BadRow(f"expected a column {missing[0]!r}, got {_listed(columns)}")
    answers = [_answer(_value(given[name], name), name, prompt) for name in ("chosen", "rejected")]
    return Row(where, prompt, answers[0], answers[1], _probability(columns.get("p_chosen")))


def _value(value: Any, name: str) -> Prompt:
    """Text or messages, every string of it valid Unicode."""
    if isinstance(value, str):
        return _unicode(value, name)
    if not isinstance(value, list | tuple):
        raise _BadRow(f"expected {name!r} to be text or a list of messages, got {_name(value)}")
    messages = []
    for i, message in enumerate(value):
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise _BadRow(f"expected message {i + 1} of {name!r} to have texts 'role' and 'content'")
        messages.append({k: _unicode(message[k], name) for k in ("role", "content")})
    return tuple(messages)


def _prompt(value: Prompt) -> Prompt:
    if not (value.strip() if isinstance(value, str) else value and value[-1]["content"].strip()):
        raise _BadRow("the prompt is empty")
    if not isinstance(value, str) and value[-1]["role"] == "assistant":
        raise _BadRow("the prompt ends with a message of the assistant, expected one that is to be answered")
    return value


def _alike(row: Row, first: Row) -> Row:
    """A row whose prompt is written like that of the file's first one, text or messages."""
    if isinstance(row.prompt, str) != isinstance(first.prompt, str):
        kinds = ("messages", "text") if isinstance(row.prompt, str) else ("text", "messages")
        raise _BadRow(f"expected the prompt to be {kinds[0]}, as in the first row, got {kinds[1]}")
    return row


def _answer(value: Prompt, name: str, prompt: Prompt) -> str:
    """The text of an answer; a conversation may repeat the prompt and must end with one message."""
    if isinstance(value, tuple):
        if isinstance(prompt, tuple) and value[: len(prompt)] == prompt:
            value = value[len(prompt) :]
        if len(value) != 1 or value[0]["role"] != "assistant":
            raise _BadRow(f"expected {name!r} to be one message of the assistant, got {len(value)} messages")
        value = value[0]["content"]
    if not value:
        raise _BadRow(f"{name!r} is empty")
    return value


def _explicit(chosen: Prompt, rejected: Prompt) -> dict[str, Any]:
    """Split what both answers begin with from them: whole messages, or text up to the last line end or space."""
    if type(chosen) is not type(rejected):
        raise _BadRow("expected 'chosen' and 'rejected' to be both text or both messages")
    differ = (i for i, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other)
    n = next(differ, min(len(chosen), len(rejected)))
    if isinstance(chosen, str):
        while n and not chosen[n - 1].isspace():
            n -= 1
    else:
        n = min(n, len(chosen) - 1, len(rejected) - 1)
    if n <= 0:
        raise _BadRow("has no 'prompt', and 'chosen' and 'rejected' do not begin with the same one")
    return {"prompt": chosen[:n], "chosen": chosen[n:], "rejected": rejected[n:]}


def _probability(value: Any) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _BadRow(f"expected 'p_chosen' to be a number from 0 to 1, got {_name(value)}")
    return float(value)


def _unicode(text: str, name: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _BadRow(f"{name!r} has half of a surrogate pair at character {error.start + 1}") from None
    return text


def _listed(columns: Mapping[str, Any]) -> str:
    names = [_short(name) for name in list(columns)[:6]]
    return f"the columns {', '.join(names)}" if names else "no column"


def _short(name: str) -> str:
    """The name of a column, unless it is more than a name."""
    return name if len(name) <= 30 and name.isidentifier() else "..."


def _name(value: Any) -> str:
    """What a JSON value is, not what it says."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else "something else")

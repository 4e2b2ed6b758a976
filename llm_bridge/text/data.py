"""Prompts, answers and preferences from files: JSON Lines (also .gz), Parquet and CSV, in the dataset types of TRL.

| type | columns |
| --- | --- |
| prompt-only | `prompt` |
| preference | `prompt`, `chosen`, `rejected` |
| preference, implicit prompt | `chosen`, `rejected`, which begin with the same prompt |
| prompt-completion | `prompt`, `completion` |
| conversation | `messages`: a prompt, or one with the answer of its last message |

Files may be those of a data set of the Hugging Face hub (`llm_bridge.text.hub`).

A value is text, or a conversation: a list of messages `{"role": ..., "content": ...}`. Whatever else a message has
(`tool_calls`, `reasoning_content`, `name`, ...) stays in it and reaches the chat template, as it does in Python; a
content in parts of text is joined. What the template knows besides messages may stand in `chat_template_kwargs`, an
object. A `prompt` that is text beside conversations that repeat it stands for the conversation (TRL's rule), up to
where they repeat it. A cell of a CSV file is text; `messages` and `chat_template_kwargs` are JSON in it.

A preference row may say in `p_chosen` with which probability `chosen` is preferred (1 if it does not). Further columns
reach a judge that asks for them (`ShownPrompt`) and nothing else, but for those that would change what a prompt means
(`tools`, `images`) and those whose names differ from known ones in capitals or spaces only, which are refused. So is a
row whose answers are the same.

Every complaint names file and line (row, in Parquet) and never repeats what the row says. Which rows a round takes is a
function of the seed and of how many were taken before, so a run resumes where it was without any state.
"""

import csv
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import numpy as np
from jaxtyping import Int

from llm_bridge.model.architecture import BridgeError
from llm_bridge.text import hub
from llm_bridge.text.tokenizer import Message, text_of

TextOrChat = str | tuple[Message, ...]
ComparedPair = tuple[Any, Any, Any, float]  # texts, or tuples of token ids
OnBadRow = Literal["abort", "skip"]

MAX_LINE_BYTES = 10_000_000
BOM = b"\xef\xbb\xbf"
JSON_LINES, PARQUET = (".jsonl", ".jsonl.gz", ".json", ".json.gz"), (".parquet",)
TABLES = {".csv": ",", ".tsv": "\t"}  # what separates their cells
ENDS = (*JSON_LINES, *PARQUET, *TABLES)
ON_THE_HUB = (*PARQUET, *JSON_LINES, *TABLES)  # the best first: other JSON files stand beside rows there
Kind = Literal["prompts", "answers", "preferences"]
REFUSED = ("tools", "functions", "documents", "system", "images", "image", "videos", "video", "audios", "audio")
ANSWERS, KWARGS = ("chosen", "rejected"), "chat_template_kwargs"
KNOWN = ("prompt", *ANSWERS, "p_chosen", KWARGS)
COMPLETION, MESSAGES = "completion", "messages"
IN_JSON = (MESSAGES, KWARGS)  # cells of a table
ASSISTANT = ("assistant", "model")  # roles of who answers; some templates call it so


class DataError(BridgeError):
    """A row or a file that cannot be used; the message says where and why, without the row's text."""


class _BadRow(ValueError):
    """What is wrong with a row."""


class _Cells(NamedTuple):
    """A row of a table.

    Attributes:
        names: of the columns.
        texts: what stands in them.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]

    def columns(self) -> dict[str, Any]:
        """The cells that are not empty, by name.

        Raises:
            _BadRow: there are too many or too few, or one is not what its column holds.
        """
        if len(self.texts) != len(self.names):
            raise _BadRow(f"has {len(self.texts)} cells, and the first line names {len(self.names)} columns")
        found: dict[str, Any] = {name: text for name, text in zip(*self, strict=True) if text}
        for name in (*IN_JSON, "p_chosen"):
            if name in found:
                try:
                    found[name] = json.loads(found[name], object_pairs_hook=_object)
                except (ValueError, RecursionError) as error:
                    if isinstance(error, _BadRow):
                        raise
                    raise _BadRow(f"expected JSON in the cell of {name!r}") from None
        return found


class ShownPrompt(str):
    """A prompt as a judge reads it, one text, that also has what its row says besides.

    Attributes:
        messages: the conversation that the text shows; None where the prompt is text.
        columns: further columns of the row by name, as they stand in the file.
    """

    messages: tuple[Message, ...] | None
    columns: Mapping[str, Any]

    def __new__(
        cls, text: str, messages: tuple[Message, ...] | None = None, columns: Mapping[str, Any] | None = None
    ) -> "ShownPrompt":
        """The text, with what it brings."""
        self = super().__new__(cls, text)
        self.messages, self.columns = messages, columns or {}
        return self


@dataclass(frozen=True)
class Row:
    """One prompt, perhaps with two answers of which one is preferred.

    Attributes:
        where: file and line.
        prompt: text, or the messages of a conversation.
        chosen, rejected: the answers, texts; or messages, where they have more than a content. None in a prompt-only
            row; of one with a single answer `rejected` is.
        p_chosen: probability that `chosen` is preferred.
        chat_template_kwargs: what the chat template is given besides messages.
        columns: further ones by name.
    """

    where: str
    prompt: TextOrChat
    chosen: str | Message | None = None
    rejected: str | Message | None = None
    p_chosen: float = 1.0
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> ShownPrompt:
        """The prompt as a judge reads it; turns of a conversation begin with their roles, a single one does not."""
        messages = None if isinstance(self.prompt, str) else self.prompt
        return ShownPrompt(shown(self.prompt) or "", messages, self.columns)

    @property
    def case(self) -> str:
        """What tells prompts apart: the prompt with what its chat template is given, as JSON."""
        return json.dumps([self.prompt, dict(self.chat_template_kwargs)], sort_keys=True, default=str)

    @property
    def comparison(self) -> ComparedPair:
        """The prompt and both answers as a judge reads them, and the probability that the first one is preferred."""
        if self.chosen is None or self.rejected is None:
            raise DataError(f"{self.where}: expected two answers, got a prompt alone")
        one, other = (text if isinstance(text, str) else text_of(text) for text in (self.chosen, self.rejected))
        return self.text, one, other, self.p_chosen


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
        """The next `size` rows after `position` have been taken; each pass over the data has a random order of its own.

        A function of its arguments, so a resumed run goes on where it was.
        """
        return tuple(self.rows[i] for i in take(len(self.rows), [seed], position, size))


def shown(prompt: Any) -> str | None:
    """A prompt as a judge reads it: a text as it is, a conversation as one text; None for what is no prompt.

    The turns of a conversation begin with their roles; a single message is its content alone.
    """
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list | tuple) or not all(isinstance(one, Mapping) and "role" in one for one in prompt):
        return None
    if len(prompt) == 1:
        return text_of(prompt[0])
    return "\n\n".join(f"{message['role']}: {text_of(message)}" for message in prompt)


def load(
    path: str | os.PathLike[str],
    *,
    kind: Kind = "prompts",
    on_bad_row: OnBadRow = "abort",
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read a dataset.

    Args:
        path: a file that ends in .jsonl, .json (one object a line), either with .gz, .parquet, .csv or .tsv; or a data
            set of the Hugging Face hub, owner/name or owner/name#split=test.
        kind: whether rows need one answer or two; prompts of rows with answers are prompts as well, and the preferred
            one of two is an answer.
        on_bad_row: stop at the first, or leave it out and say so in `Dataset.skipped`.
        chat_template_kwargs: what the chat template is given besides messages, in every row; a row's own win.

    Raises:
        DataError: the file cannot be read, a row is bad, or there are none.
    """
    path = Path(path)
    rows: list[Row] = []
    skipped: list[str] = []
    for where, value in _values(path):
        try:
            row = _row(where, _parsed(value), kind)
            row = replace(row, chat_template_kwargs={**(chat_template_kwargs or {}), **row.chat_template_kwargs})
            rows.append(_alike(row, rows[0] if rows else row))
        except _BadRow as error:
            if on_bad_row == "abort":
                raise DataError(f"{where}: {error}") from None
            skipped.append(f"{where}: {error}")
    if not rows:
        reason = f" that can be used ({len(skipped)} bad, the first is {skipped[0]})" if skipped else ""
        raise DataError(f"{path}: has no row{reason}")
    return Dataset(tuple(rows), tuple(skipped))


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the bytes of all files of a dataset.

    Raises:
        DataError: they cannot be read.
    """
    found = hashlib.sha256()
    for _, file in _files(Path(path)):
        found.update(file.read_bytes())
    return found.hexdigest()


def absolute(path: Path) -> Path:
    """A file's name whatever the current folder is later; that of a data set of the hub as it is."""
    return path if hub.names_one(path, ENDS) else path.absolute()


def take(n: int, seed: Sequence[int], position: int, size: int) -> Int[np.ndarray, " size"]:
    """Which of n rows are next, after `position` have been taken: parts of one random order after another.

    A function of its arguments, so a resumed run goes on where it was.
    """
    places = np.arange(position, position + size)
    orders = {epoch: np.random.default_rng([*seed, epoch]).permutation(n) for epoch in {*(places // n).tolist()}}
    return np.array([orders[place // n][place % n] for place in places.tolist()], np.int64)


# ------------------------------------------------------------------------------------------------ files


def _files(path: Path) -> list[tuple[str, Path]]:
    """The files of a dataset, and what each is called."""
    if not hub.names_one(path, ENDS):
        return [(str(path), path)]
    try:
        return hub.fetch(path, ON_THE_HUB)
    except BridgeError as error:
        raise DataError(str(error)) from None


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """Where a row is, and its bytes or its columns."""
    for shown, file in _files(path):
        name = file.name.lower()
        try:
            if name.endswith(JSON_LINES):
                yield from _lines(file, shown)
            elif name.endswith(PARQUET):
                yield from _parquet(file, shown)
            elif name.endswith(tuple(TABLES)):
                yield from _table(file, shown)
            else:
                raise DataError(f"{shown}: {_no_file(file)}expected a file that ends in {' or '.join(ENDS)}")
        except FileNotFoundError:
            raise DataError(f"{shown}: not there") from None
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{shown}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _no_file(path: Path) -> str:
    """What to do with a folder."""
    if path.is_dir():
        files = sorted(file for place in ("*", "*/*") for file in path.glob(place) if file.name.lower().endswith(ENDS))
        return f"a folder; take one of its files, such as {files[0]}; " if files else "a folder; "
    return "" if path.exists() else "not there; "


def _lines(path: Path, shown: str) -> Iterator[tuple[str, bytes]]:
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
                    raise DataError(f"{shown}:{number}: begins a JSON array, {wanted}")
                first = False
                yield f"{shown}:{number}", line


def _table(path: Path, shown: str) -> Iterator[tuple[str, "_Cells"]]:
    """Rows of a table whose first line has the columns' names."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=TABLES[path.suffix.lower()], strict=True)
            names = tuple(next(rows, []))
            if len(set(names)) < len(names) or (len(names) == 1 and ";" in names[0]):
                wrong = "two columns have the same name" if len(names) > 1 else "cells are separated by semicolons"
                raise DataError(f"{shown}:1: {wrong}, expected a name for each column, separated by commas")
            begin = rows.line_num + 1
            for cells in rows:
                where, begin = f"{shown}:{begin}", rows.line_num + 1
                if cells:
                    yield where, _Cells(names, tuple(cells))
    except UnicodeDecodeError as error:
        raise DataError(f"{shown}: not UTF-8 ({error.reason})") from None
    except csv.Error as error:
        raise DataError(f"{shown}: cannot be read as a table ({error})") from None
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path, shown: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{shown}: Parquet needs pyarrow: pip install 'magnetic-mirror[data]'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{shown}: row {number}", {name: _without_nulls(value) for name, value in row.items()}
    except (ArrowException, UnicodeDecodeError) as error:
        kind = type(error).__name__
        raise DataError(f"{shown}: cannot be read as Parquet ({kind}, after row {number})") from None


def _without_nulls(value: Any) -> Any:
    """A value of Parquet, in which every object has all keys that any row has: those that are null are not there."""
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return value


def _parsed(value: bytes | dict[str, Any] | _Cells) -> Mapping[str, Any]:
    """A line as an object."""
    if isinstance(value, dict):
        return value
    if isinstance(value, _Cells):
        return value.columns()
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


def _row(where: str, columns: Mapping[str, Any], kind: Kind) -> Row:
    for name in columns:
        known = name.strip().casefold()
        if known in REFUSED and columns[name]:
            raise _BadRow(f"the column {known!r} is not supported")
        if known in (*KNOWN, COMPLETION, MESSAGES) and known != name:
            raise _BadRow(f"a column is called like {known!r} but for capitals or spaces; call it {known!r}")
    given = {name: columns[name] for name in ("prompt", *ANSWERS) if columns.get(name) is not None}
    if set(ANSWERS) <= set(given) and ("prompt" not in given or _has_conversations(given)):
        given = _explicit(given.get("prompt"), *(_value(given[name], name) for name in ANSWERS))
    elif not set(ANSWERS) & set(given):
        given |= _told(columns, given.get("prompt"))
    if "prompt" not in given:
        raise _BadRow(f"expected a column 'prompt', got {_listed(columns)}")
    prompt, arguments = _prompt(_value(given["prompt"], "prompt")), _arguments(columns.get(KWARGS))
    others = {name: value for name, value in columns.items() if name not in (*KNOWN, *REFUSED)}
    if kind == "prompts":
        return Row(where, prompt, chat_template_kwargs=arguments, columns=others)
    if kind == "answers" and "rejected" not in given:
        if "chosen" not in given:
            wanted = f"'{COMPLETION}', or {MESSAGES!r} that end with an answer"
            raise _BadRow(f"expected a column {wanted}, got {_listed(columns)}")
        answer = _answer(_value(given["chosen"], COMPLETION), COMPLETION, prompt)
        return Row(where, prompt, answer, chat_template_kwargs=arguments, columns=others)
    if missing := [name for name in ANSWERS if name not in given]:
        raise _BadRow(f"expected a column {missing[0]!r}, got {_listed(columns)}")
    answers = [_answer(_value(given[name], name), name, prompt) for name in ANSWERS]
    if answers[0] == answers[1]:
        raise _BadRow("'chosen' and 'rejected' are the same answer, of which none is preferred")
    return Row(where, prompt, answers[0], answers[1], _probability(columns.get("p_chosen")), arguments, others)


def _told(columns: Mapping[str, Any], prompt: Any) -> dict[str, Any]:
    """What `completion` or `messages` say: an answer, and a prompt where there is none or it is text that they repeat.

    Of a conversation the last message is the answer if it is the assistant's, and all before it is the prompt. Where
    its prompt is told apart, the conversation is that up to there, and the answer what follows.
    """
    if columns.get(COMPLETION) is not None:
        return {"chosen": columns[COMPLETION]}
    if columns.get(MESSAGES) is None or not isinstance(prompt, str | None):
        return {}
    messages = _value(columns[MESSAGES], MESSAGES)
    if isinstance(messages, str):
        raise _BadRow(f"expected {MESSAGES!r} to be a list of messages, got text")
    spoken = [message["role"].strip().casefold() in ASSISTANT for message in messages]
    if prompt is None:
        n = len(messages) - int(any(spoken[-1:]))
    else:
        same = (i for i, message in enumerate(messages, 1) if text_of(message).strip() == prompt.strip())
        n = next(same, 0)
        if not n:  # they are a column of their own
            return {}
    return {"prompt": messages[:n]} | ({"chosen": messages[n : n + 1]} if any(spoken[n : n + 1]) else {})


def _value(value: Any, name: str) -> TextOrChat:
    """Text or messages, every string of it valid Unicode."""
    if isinstance(value, str):
        return _unicode(value, name)
    if not isinstance(value, list | tuple):
        raise _BadRow(f"expected {name!r} to be text or a list of messages, got {_name(value)}")
    return tuple(_message(message, i, name) for i, message in enumerate(value, 1))


def _message(value: Any, number: int, name: str) -> Message:
    """A message with all that stands in it; a content in parts of text is joined.

    Raises:
        _BadRow: it has no role or no content; only tool calls can do without a content.
    """
    place = f"message {number} of {name!r}"
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        raise _BadRow(f"expected {place} to have texts 'role' and 'content'")
    content = value.get("content")
    if isinstance(content, list | tuple):
        texts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        parts = [text for text in texts if isinstance(text, str)]
        if len(parts) < len(content):
            raise _BadRow(f"expected the content of {place} to be text, or parts of the type 'text' with a 'text'")
        content = "".join(parts)
    if not isinstance(content, str) and not (content is None and value.get("tool_calls")):
        raise _BadRow(f"expected {place} to have texts 'role' and 'content'")
    _check_texts(value, name)
    return {**value, "content": content}


def _check_texts(value: Any, name: str) -> None:
    """That every string inside a value is valid Unicode."""
    if isinstance(value, str):
        _unicode(value, name)
    elif isinstance(value, Mapping):
        for inner in (*value, *value.values()):
            _check_texts(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_texts(inner, name)


def _prompt(value: TextOrChat) -> TextOrChat:
    if not isinstance(value, str) and value and value[-1]["role"].strip().casefold() in ASSISTANT:
        raise _BadRow("the prompt ends with a message of the assistant, expected one that is to be answered")
    if not (value.strip() if isinstance(value, str) else value and (value[-1]["content"] or "").strip()):
        raise _BadRow("the prompt is empty")
    return value


def _arguments(value: Any) -> Mapping[str, Any]:
    """What a row gives its chat template besides messages."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _BadRow(f"expected {KWARGS!r} to be an object, got {_name(value)}")
    if "ended" in value:  # which is for `Tokenizer.completed`
        raise _BadRow(f"{KWARGS!r} has 'ended', which no chat template can be given")
    return dict(value)


def _alike(row: Row, first: Row) -> Row:
    """A row whose prompt is written like that of the file's first one, text or messages."""
    if isinstance(row.prompt, str) != isinstance(first.prompt, str):
        kinds = ("messages", "text") if isinstance(row.prompt, str) else ("text", "messages")
        raise _BadRow(f"expected the prompt to be {kinds[0]}, as in the first row, got {kinds[1]}")
    return row


def _answer(value: TextOrChat, name: str, prompt: TextOrChat) -> str | Message:
    """An answer; a conversation may repeat the prompt and must end with one message."""
    if isinstance(value, tuple):
        if isinstance(prompt, tuple) and value[: len(prompt)] == prompt:
            value = value[len(prompt) :]
        if len(value) != 1 or value[0]["role"] != "assistant":
            raise _BadRow(f"expected {name!r} to be one message of the assistant, got {len(value)} messages")
        (message,) = value
        if text_of(message) and any(inner for key, inner in message.items() if key not in ("role", "content")):
            return message
        value = str(message["content"] or "")
    if not value:
        raise _BadRow(f"{name!r} is empty")
    return value


def _has_conversations(given: Mapping[str, Any]) -> bool:
    """Whether both answers are conversations of several messages beside a prompt that is text."""
    answers = [given[name] for name in ANSWERS]
    several = all(isinstance(answer, list | tuple) and len(answer) > 1 for answer in answers)
    return several and isinstance(given["prompt"], str) and all(isinstance(m, Mapping) for a in answers for m in a)


def _n_alike(one: Sequence[Any], other: Sequence[Any]) -> int:
    """With how many equal messages, or characters, two values begin, of messages all but the last."""
    differ = (i for i, (mine, its) in enumerate(zip(one, other, strict=False)) if mine != its)
    n = next(differ, min(len(one), len(other)))
    return n if isinstance(one, str) else min(n, len(one) - 1, len(other) - 1)


def _explicit(prompt: str | None, chosen: TextOrChat, rejected: TextOrChat) -> dict[str, TextOrChat]:
    """Split what both answers begin with from them: whole messages, or text up to the last line end or space.

    A space there begins the answers, as in TRL and as tokens have it: "The sky is", " blue." and " green.".

    Args:
        prompt: text that one of the messages repeats, which then stands for all of them; None if there is none.
        chosen, rejected: with the prompt in front.

    Raises:
        _BadRow: they do not begin alike, or not with the prompt.
    """
    if type(chosen) is not type(rejected):
        raise _BadRow("expected 'chosen' and 'rejected' to be both text or both messages")
    n = _n_alike(chosen, rejected)
    if isinstance(chosen, str):
        while n and not chosen[n - 1].isspace():
            n -= 1
        n -= chosen[n - 1 : n] == " "
    if n <= 0:
        raise _BadRow("has no 'prompt', and 'chosen' and 'rejected' do not begin with the same one")
    if prompt and not any(text_of(message).strip() == prompt.strip() for message in cast(Any, chosen[:n])):
        raise _BadRow("'prompt' is text that no message repeats with which 'chosen' and 'rejected' both begin")
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

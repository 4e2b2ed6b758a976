"""Datasets: TRL's types, every bad row named by file and line (R13), an order that resumes anywhere."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.text import data, encoding
from tests.llm.test_templates import CALL, published
from tests.llm.test_tokenizer import tokenizer

USER = {"role": "user", "content": "a b"}
BOT = {"role": "assistant", "content": "c"}
WORSE = {"role": "assistant", "content": "ab"}


def lines(path: Path, *rows: Any) -> Path:
    path.write_bytes(b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in rows))
    return path


# -------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a b", "chosen": "c", "rejected": "ab"},
        {"prompt": [USER], "chosen": [BOT], "rejected": [WORSE]},
        {"prompt": [USER], "chosen": [USER, BOT], "rejected": [USER, WORSE]},
        {"prompt": [USER], "chosen": "c", "rejected": "ab"},
        {"chosen": [USER, BOT], "rejected": [USER, WORSE]},
        {"prompt": "a b", "chosen": [USER, BOT], "rejected": [USER, WORSE]},
        {"chosen": "a b\nc", "rejected": "a b\nab"},
    ],
    ids=["standard", "conversational", "repeated", "mixed", "implicit messages", "text repeated", "implicit text"],
)
def test_every_type_of_preference_says_the_same(row: dict[str, Any], tmp_path: Path) -> None:
    (found,) = data.load(lines(tmp_path / "p.jsonl", row | {"source": "kept out"}), kind="preferences").rows
    assert (found.chosen, found.rejected, found.p_chosen) == ("c", "ab", 1.0)
    assert found.text.strip() == "a b"
    assert found.where == f"{tmp_path / 'p.jsonl'}:1"
    assert data.load(tmp_path / "p.jsonl").rows[0].prompt == found.prompt


IMPLICIT = {
    ("The sky is blue.", "The sky is green."): ("The sky is", " blue.", " green."),
    ("The sky is  blue.", "The sky is  green."): ("The sky is ", " blue.", " green."),
    ("Sky?\nblue", "Sky?\nbeige"): ("Sky?\n", "blue", "beige"),
    ("The sky is blue", "The sky is bluer"): ("The sky is", " blue", " bluer"),
    ("The sky is blue", "The sky is blue indeed"): ("The sky is", " blue", " blue indeed"),
    ("a\tb", "a\tc"): ("a\t", "b", "c"),
}


@pytest.mark.parametrize("pair", IMPLICIT)
def test_a_space_before_implicit_answers_is_theirs(pair: tuple[str, str], tmp_path: Path) -> None:
    """As in TRL, whose cut is at the first letter that differs; here no word is cut."""
    row = {"chosen": pair[0], "rejected": pair[1]}
    (found,) = data.load(lines(tmp_path / "p.jsonl", row), kind="preferences").rows
    assert (found.prompt, found.chosen, found.rejected) == IMPLICIT[pair]


def test_a_text_that_conversations_repeat_stands_for_them(tmp_path: Path) -> None:
    """As preferences and as prompts, with what stands before it; where it is not repeated nothing is guessed."""
    system = {"role": "system", "content": "be brief"}
    row = {"prompt": "a b ", "chosen": [system, USER, BOT], "rejected": [system, USER, WORSE]}
    path = lines(tmp_path / "p.jsonl", row)
    (found,) = data.load(path, kind="preferences").rows
    assert (found.prompt, found.chosen, found.rejected) == ((system, USER), "c", "ab")
    assert data.load(path).rows[0].prompt == (system, USER)
    other = lines(tmp_path / "o.jsonl", row | {"prompt": "something else"})
    for kind in ("prompts", "preferences"):
        with pytest.raises(data.DataError, match=r"o.jsonl:1: 'prompt' is text that no message repeats"):
            data.load(other, kind=kind)


CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 1}
TOLD = {"role": "tool", "content": "noon", "name": "clock", "tool_call_id": "x7"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "and "}, {"type": "text", "text": "now?"}]}
THOUGHT = {"role": "assistant", "content": "noon", "reasoning_content": "well"}


def test_messages_of_a_file_are_those_of_python(tmp_path: Path) -> None:
    """Every key reaches the template, from JSON Lines and from Parquet, and so does what it is given besides."""
    words = published("chatml on a base model", tmp_path / "words")
    talk = [USER, CALLED, TOLD, THOUGHT, PARTS]
    rows = [
        {"prompt": talk, "chat_template_kwargs": {"enable_thinking": False}},
        {"prompt": [USER], "chat_template_kwargs": None},
    ]
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    spelled = [
        row | {"prompt": [{k: v for k, v in m.items() if m is not PARTS} for m in row["prompt"]]} for row in rows
    ]
    spelled[0]["prompt"][-1] = {"role": "user", "content": "and now?"}
    parquet.write_table(pyarrow.Table.from_pylist(spelled), tmp_path / "p.parquet")
    for path in (lines(tmp_path / "p.jsonl", *rows), tmp_path / "p.parquet"):
        found = data.load(path)
        one, other = encoding.prompts(found, words, longest=999).examples
        assert words.decode(one.ids, special=True) == words.render(talk, enable_thinking=False)
        assert words.decode(other.ids, special=True) == words.render([USER])
    for part in ('{"type": "function"', "(clock)", "<think>\nwell\n</think>", "and now?", "<think>\n\n</think>\n\n"):
        assert part in words.decode(one.ids, special=True)
    given = data.load(tmp_path / "p.jsonl", chat_template_kwargs={"enable_thinking": True})
    assert [row.chat_template_kwargs["enable_thinking"] for row in given.rows] == [False, True]  # a row's own wins
    assert found.rows[0].text.startswith('user: a b\n\nassistant: [{"type": "function"')


def test_answers_of_a_file_are_those_of_python(tmp_path: Path) -> None:
    words = published("chatml on a base model", tmp_path / "words")
    row = {"prompt": [USER], "chosen": [CALLED], "rejected": [USER, THOUGHT]}
    pairs = data.load(lines(tmp_path / "p.jsonl", row), kind="preferences")
    ((chosen, rejected),) = encoding.answers(pairs, words, longest=999).examples
    for example, answer in ((chosen, CALLED), (rejected, THOUGHT)):
        assert example.ids == tuple(words.completed([USER], answer)[0])
    assert pairs.rows[0].comparison == ("a b", json.dumps([CALL]), "noon", 1.0)
    plain = published("llama 3", tmp_path / "plain")
    with pytest.raises(data.DataError, match=r"p.jsonl:1: .*does not write tool_calls"):
        encoding.answers(pairs, plain, longest=999)
    for prompt in ([USER], "a b"):
        asked = data.load(lines(tmp_path / "k.jsonl", {"prompt": prompt, "chat_template_kwargs": {"thinks": True}}))
        with pytest.raises(data.DataError, match=r"k.jsonl:1: .*(does not ask for|which) thinks"):
            encoding.prompts(asked, words, longest=999)


TURNS = [USER, BOT, {"role": "user", "content": "and d?"}, WORSE]


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"prompt": "a b", "completion": "c"}, "a b", "c"),
        ({"prompt": [USER], "completion": [BOT]}, (USER,), "c"),
        ({"prompt": [USER], "chosen": "c"}, (USER,), "c"),
        ({"prompt": "a b", "chosen": "c", "rejected": "ab"}, "a b", "c"),
        ({"messages": [USER, BOT]}, (USER,), "c"),
        ({"messages": TURNS}, tuple(TURNS[:3]), "ab"),
        ({"prompt": "a b ", "messages": TURNS}, (USER,), "c"),
        ({"prompt": "and d?", "messages": TURNS}, tuple(TURNS[:3]), "ab"),
        ({"prompt": None, "messages": [USER, THOUGHT], "completion": None}, (USER,), THOUGHT),
    ],
    ids=["texts", "messages", "one side", "preferred", "told", "many turns", "up to", "further", "with a thought"],
)
def test_one_answer_in_every_form(row: dict[str, Any], prompt: Any, answer: Any, tmp_path: Path) -> None:
    """As demonstrations; and the prompt alone is the same one."""
    path = lines(tmp_path / "d.jsonl", row)
    (found,) = data.load(path, kind="answers").rows
    assert (found.prompt, found.chosen) == (prompt, answer)
    assert data.load(path).rows[0].prompt == prompt
    if "rejected" not in row:
        with pytest.raises(data.DataError, match=r"d.jsonl:1: expected a column '(chosen|rejected)'"):
            data.load(path, kind="preferences")


def test_messages_that_await_an_answer_are_a_prompt_and_no_demonstration(tmp_path: Path) -> None:
    path = lines(tmp_path / "m.jsonl", {"messages": TURNS[:3]}, {"messages": [USER]})
    assert [row.prompt for row in data.load(path).rows] == [tuple(TURNS[:3]), (USER,)]
    with pytest.raises(data.DataError, match=r"m.jsonl:1: expected a column 'completion', or 'messages' that end with"):
        data.load(path, kind="answers")
    other = lines(tmp_path / "o.jsonl", {"prompt": "z", "messages": TURNS})
    assert data.load(other).rows[0].prompt == "z"  # they do not repeat it, so they are a column
    assert data.load(other).rows[0].columns["messages"] == TURNS


def test_demonstrations_are_encoded_as_the_preferred_answers_are(tmp_path: Path) -> None:
    words = published("chatml on a base model", tmp_path / "words")
    pairs = lines(tmp_path / "p.jsonl", {"prompt": [USER], "chosen": "c", "rejected": "ab"})
    told = lines(tmp_path / "t.jsonl", {"messages": [USER, BOT]})
    ((chosen, _),) = encoding.answers(data.load(pairs, kind="preferences"), words, longest=99).examples
    ((alone,),) = encoding.answers(data.load(told, kind="answers"), words, longest=99).examples
    assert alone.ids == chosen.ids
    assert alone.mask == chosen.mask


def test_tables(tmp_path: Path) -> None:
    """Cells with line ends and quotes, a byte order mark, empty cells; a row's line is the one that it begins in."""
    text = 'prompt,p_chosen,chosen,rejected,note\r\n"a ""b""\nc",0.75,x,y,\n\nd,,x,y,z\n'
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    one, other = data.load(tmp_path / "t.csv", kind="preferences").rows
    assert (one.prompt, one.chosen, one.rejected, one.p_chosen) == ('a "b"\nc', "x", "y", 0.75)
    assert (other.where, other.p_chosen) == (f"{tmp_path / 't.csv'}:5", 1.0)
    assert (one.columns, other.columns) == ({}, {"note": "z"})
    talk = json.dumps([USER, BOT]).replace('"', '""')
    (tmp_path / "t.tsv").write_text(f'messages\tn\n"{talk}"\t1\n')
    (row,) = data.load(tmp_path / "t.tsv", kind="answers").rows
    assert (row.prompt, row.chosen, row.columns["n"]) == ((USER,), "c", "1")
    faults = {
        "prompt,chosen\na,b,c\n": r"f.csv:2: has 3 cells, and the first line names 2 columns",
        "prompt,prompt\na,b\n": r"f.csv:1: two columns have the same name",
        "prompt;chosen\na;b\n": r"f.csv:1: cells are separated by semicolons, expected",
        "messages\nhello\n": r"f.csv:2: expected JSON in the cell of 'messages'",
        'prompt\n"a\n': r"f.csv: cannot be read as a table \(unexpected end of data\)",
    }
    for content, reason in faults.items():
        (tmp_path / "f.csv").write_text(content)
        with pytest.raises(data.DataError, match=reason):
            data.load(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_bytes(b"prompt\n\xff\n")
    with pytest.raises(data.DataError, match=r"f.csv: not UTF-8"):
        data.load(tmp_path / "f.csv")


def test_jsonl_gzip_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [{"prompt": f"prompt {i}", "chosen": "x", "rejected": "y", "p_chosen": i / 4} for i in range(5)]
    lines(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [data.load(tmp_path / f"a{end}", kind="preferences").rows for end in (".jsonl", ".jsonl.gz", ".parquet")]
    for one, other in zip(found[0], found[1], strict=True):
        assert (one.text, one.p_chosen) == (other.text, other.p_chosen)
    assert [row.p_chosen for row in found[2]] == [0, 0.25, 0.5, 0.75, 1]
    assert found[2][3].where == f"{tmp_path / 'a.parquet'}: row 4"


def test_the_real_pairs_are_read(data: Path) -> None:
    from llm_bridge.text.data import load

    found = load(data / "text" / "prefs_dev.jsonl.gz", kind="preferences")
    assert len(found) == 754
    assert all(row.chosen and row.rejected and 0.5 <= row.p_chosen <= 1 for row in found.rows)


# -------------------------------------------------------------------- R13


SECRET = "Zanzibar"
BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b'{"prompt": "%s"' % SECRET.encode(), "not JSON: .*, column"),
    "wrong type": (json.dumps({"prompt": 7}).encode(), "expected 'prompt' to be text .*, got a number"),
    "no prompt": (json.dumps({"text": SECRET}).encode(), "expected a column 'prompt', got the columns text"),
    "empty prompt": (b'{"prompt": " "}', "the prompt is empty"),
    "empty messages": (b'{"prompt": []}', "the prompt is empty"),
    "message": (json.dumps({"prompt": [{"role": SECRET}]}).encode(), "expected message 1 of 'prompt' to have"),
    "surrogate": (b'{"prompt": "%s \\ud800"}' % SECRET.encode(), "half of a surrogate pair at character 10"),
    "BOM": (b"\xef\xbb\xbf" + json.dumps({"prompt": SECRET}).encode(), "byte order mark"),
    "20 MB": (json.dumps({"prompt": SECRET * 2_500_000}).encode(), "longer than 10,000,000 bytes"),
    "list": (b"[]", "expected a JSON object a line, got a list"),
    "assistant": (
        json.dumps({"prompt": [USER, BOT | {"content": SECRET}]}).encode(),
        "ends with a message of the",
    ),
    "messages": (
        json.dumps({"prompt": [{"role": "user", "content": SECRET}]}).encode(),
        "text, as in the first row",
    ),
    "twice": (b'{"prompt": "%s", "prompt": "b"}' % SECRET.encode(), "the key prompt stands in an object twice"),
    "inner": (b'{"prompt": [{"role": "user", "content": "a", "role": "b"}]}', "the key role stands in an object twice"),
    "bytes": (b'{"prompt": "\xff"}', "not UTF-8 at byte 13"),
    "deep": (b'{"prompt": ' + b"[" * 100_000, "nested too deeply"),
    "no content": (
        json.dumps({"prompt": [{"role": "user", "content": None}]}).encode(),
        "expected message 1 of 'prompt'",
    ),
    "a part": (
        json.dumps({"prompt": [{"role": "user", "content": [{"type": "image", "url": SECRET}]}]}).encode(),
        "expected the content of message 1 of 'prompt' to be text, or parts of the type 'text'",
    ),
    "kwargs": (b'{"prompt": "a", "chat_template_kwargs": "x"}', "'chat_template_kwargs' to be an object, got text"),
    "inner surrogate": (
        b'{"prompt": [{"role": "user", "content": "a", "name": "\\ud800"}]}',
        "'prompt' has half of a surrogate pair at character 1",
    ),
    "Messages": (json.dumps({"Messages": [USER]}).encode(), "but for capitals or spaces; call it 'messages'"),
    "told to itself": (json.dumps({"messages": [BOT | {"content": SECRET}]}).encode(), "the prompt is empty"),
    "tools": (json.dumps({"prompt": SECRET, "tools": [SECRET]}).encode(), "the column 'tools' is not supported"),
    "Tools": (json.dumps({"prompt": SECRET, "Tools": [SECRET]}).encode(), "the column 'tools' is not supported"),
    "Prompt": (json.dumps({"Prompt": SECRET}).encode(), "like 'prompt' but for capitals or spaces; call it 'prompt'"),
    "Kwargs": (b'{"prompt": "a", "Chat_template_kwargs": {}}', "call it 'chat_template_kwargs'"),
    "space": (b'{"prompt": "a", "p_chosen ": 0.2}', "call it 'p_chosen'"),
    "Assistant": (json.dumps({"prompt": [USER, BOT | {"role": "Assistant"}]}).encode(), "ends with a message of the"),
    "model": (json.dumps({"prompt": [USER, BOT | {"role": "model"}]}).encode(), "ends with a message of the"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_row_stops_with_file_line_and_reason_and_without_its_text(fault: str, tmp_path: Path) -> None:
    row, reason = BAD[fault]
    good = {"prompt": "a"}
    path = lines(tmp_path / "rows.jsonl", good, b"\n", row + b"\n", good, row + b"\n")
    with pytest.raises(data.DataError, match=f"rows.jsonl:3: .*{reason}") as refusal:
        data.load(path)
    assert SECRET not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    found = data.load(path, on_bad_row="skip")
    assert len(found) == 2
    assert [complaint.partition(": ")[0] for complaint in found.skipped] == [f"{path}:3", f"{path}:5"]


PAIRS = {
    "one answer": ({"prompt": "a", "chosen": "b"}, "expected a column 'rejected'"),
    "user answers": ({"prompt": "a", "chosen": [USER], "rejected": [BOT]}, "one message of the assistant"),
    "two answers": ({"prompt": "a", "chosen": [BOT, BOT], "rejected": [BOT]}, "got 2 messages"),
    "empty answer": ({"prompt": "a", "chosen": "", "rejected": "b"}, "'chosen' is empty"),
    "probability": ({"prompt": "a", "chosen": "b", "rejected": "c", "p_chosen": 1.5}, "from 0 to 1"),
    "nothing shared": ({"chosen": "b", "rejected": "c"}, "do not begin with the same"),
    "P_chosen": ({"prompt": "a", "chosen": "b", "rejected": "c", "P_chosen": 0.1}, "call it 'p_chosen'"),
    "the same": ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same answer"),
    "the same, in other forms": ({"prompt": [USER], "chosen": "c", "rejected": [BOT]}, "are the same answer"),
    "the same, implicit": ({"chosen": "a b", "rejected": "a b"}, "are the same answer"),
    "the same calls": ({"prompt": [USER], "chosen": [CALLED], "rejected": [CALLED]}, "are the same answer"),
    "mixed": ({"chosen": "b", "rejected": [BOT]}, "both text or both messages"),
}


@pytest.mark.parametrize("fault", PAIRS)
def test_a_bad_pair_stops_with_file_and_line(fault: str, tmp_path: Path) -> None:
    row, reason = PAIRS[fault]
    with pytest.raises(data.DataError, match=f"rows.jsonl:1: .*{reason}"):
        data.load(lines(tmp_path / "rows.jsonl", row), kind="preferences")
    good = {"prompt": [USER] if isinstance(row.get("prompt"), list) else "a", "chosen": "b", "rejected": "c"}
    found = data.load(lines(tmp_path / "rows.jsonl", row, good), kind="preferences", on_bad_row="skip")
    assert (len(found), len(found.skipped)) == (1, 1)


def test_bad_files(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"prompt": "a"}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-9])
    (tmp_path / "false.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    (tmp_path / "rows.txt").write_bytes(b"a")
    expected = {
        "cut.jsonl.gz": "cannot be read",
        "false.jsonl.gz": "cannot be read",
        "empty.jsonl": "has no row",
        "rows.txt": "expected a file that ends in .jsonl",
        "missing.jsonl": "not there",
        ".": "a folder; take one of its files, such as .*cut.jsonl.gz; expected a file",
    }
    for name, reason in expected.items():
        with pytest.raises(data.DataError, match=reason):
            data.load(tmp_path / name, on_bad_row="skip")
    with pytest.raises(data.DataError, match=r"org/rows.jsonl: not there"):
        data.load("org/rows.jsonl")
    with pytest.raises(data.DataError, match=r"has no row that can be used .2 bad, the first is .*:1: expected a JSON"):
        data.load(lines(tmp_path / "bad.jsonl", 1, []), on_bad_row="skip")
    for rows in (b'[{"prompt": "a"}]', b'\n[\n {"prompt": "a"}\n]\n'):
        (tmp_path / "array.json").write_bytes(rows)
        with pytest.raises(data.DataError, match=r"array.json:[12]: begins a JSON array, expected one object a line"):
            data.load(tmp_path / "array.json", on_bad_row="skip")
    pytest.importorskip("pyarrow")
    (tmp_path / "false.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(data.DataError, match="cannot be read as Parquet"):
        data.load(tmp_path / "false.parquet")


# -------------------------------------------------------------------- order


def test_every_epoch_takes_every_row_once_in_an_order_of_its_own() -> None:
    epochs = data.take(10, [3], 0, 30).reshape(3, 10)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert not np.array_equal(epochs[0], data.take(10, [4], 0, 10))


def test_the_order_goes_on_from_any_position_in_portions_of_any_size() -> None:
    whole = data.take(7, [0], 0, 60)
    for position in range(0, 40, 3):
        for size in (1, 5, 16):
            np.testing.assert_array_equal(data.take(7, [0], position, size), whole[position : position + size])


# -------------------------------------------------------------------- ids and masks


def test_examples_are_shown_as_the_model_sees_them(tmp_path: Path) -> None:
    found = bridge.Tokenizer(tokenizer(tmp_path / "t"))
    rows = data.load(lines(tmp_path / "p.jsonl", {"prompt": [USER], "chosen": "c\x1b[2J", "rejected": "ab"}))
    pairs = data.load(tmp_path / "p.jsonl", kind="preferences")
    (prompt,) = encoding.prompts(rows, found, longest=5).examples
    assert prompt.ids == (1, 3, 5, 6, 4)
    assert not any(prompt.mask)
    ((chosen, rejected),) = encoding.answers(pairs, found, longest=99).examples
    assert rejected.ids == (1, 3, 5, 6, 4, 8, 2)
    assert rejected.mask == (False,) * 5 + (True,) * 2
    shown = encoding.preview([rejected, chosen], found)
    assert shown[:4] == [
        f"{tmp_path / 'p.jsonl'}:1: 5 prompt tokens, 2 trained",
        "  text <s> <user> a b <bot> ab </s>",
        "  ids  1 3 5 6 4 8 2",
        "  mask 0 0 0 0 0 1 1",
    ]
    assert all(line.isprintable() for line in shown)


def test_a_row_that_does_not_fit_the_model_is_named(tmp_path: Path) -> None:
    found = bridge.Tokenizer(tokenizer(tmp_path / "t"))
    path = lines(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "a b c a b c"})
    with pytest.raises(data.DataError, match=r"p.jsonl:2: has 7 tokens, more than the 4"):
        encoding.prompts(data.load(path), found, longest=4)
    examples, skipped = encoding.prompts(data.load(path), found, longest=4, on_bad_row="skip")
    assert (len(examples), len(skipped)) == (1, 1)
    inside = lines(tmp_path / "e.jsonl", {"prompt": "a", "chosen": "b</s>c", "rejected": "b"})
    with pytest.raises(data.DataError, match=r"e.jsonl:1: an answer has an end token before its end"):
        encoding.answers(data.load(inside, kind="preferences"), found, longest=99)

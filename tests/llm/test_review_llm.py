"""What a review by a new user found: answers and keys that were lost without a word."""

import json
from pathlib import Path

import pytest

from llm_bridge.command.answering import read_answers
from llm_bridge.text import data
from mmd.host.command_line import UsageError


def test_rows_with_the_same_prompt_have_answers_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": "q", "response": text} for text in ("a\u2028", "b")]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", "utf-8")
    assert read_answers(path, ["q", "q"], 1) == [["a\u2028"], ["b"]]
    with pytest.raises(UsageError, match="1 of 3 prompts have fewer than 1"):
        read_answers(path, ["q"] * 3, 1)


@pytest.mark.parametrize("column", ["system", "documents", "functions", "video", "audio"])
def test_columns_that_change_a_prompt_are_refused(tmp_path: Path, column: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "q", column: "x"}) + "\n", "utf-8")
    with pytest.raises(data.DataError, match=column):
        data.load(path)

"""The demonstration: halves without a common prompt, conversations, rows; its page is that of its result."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_model import page as demo_llm_page
from benchmarks.real_model import text as demo_llm_text
from benchmarks.real_model.stages import FILES, STAGES
from llm_bridge.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "demo_llm.json"


def test_halves_are_disjoint_by_prompt_and_whole(data: Path) -> None:
    """No prompt, by its id or by its text, is in both; with the dev prompts none is shared either."""
    pairs, dev = (demo_llm_text.read(data / "text" / name) for name in FILES)
    first, second = demo_llm_text.halves(pairs)
    assert len(first) + len(second) == len(pairs)
    assert 0.4 < len(first) / len(pairs) < 0.6
    for key in ("prompt_id", "prompt"):
        sets = [{json.dumps(pair[key]) for pair in part} for part in (first, second, dev)]
        assert not sets[0] & sets[1]
        assert not (sets[0] | sets[1]) & sets[2]


def test_turns_of_a_prompt_are_messages() -> None:
    assert demo_llm_text.messages("Who?") == [{"role": "user", "content": "Who?"}]
    assert demo_llm_text.messages("Human: Hi there\n\nAssistant: Yes?\n\nHuman: Who?\n\nAssistant:") == [
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Who?"},
    ]


def test_a_tokenizer_made_here_is_read_as_a_checkpoint_s(tmp_path: Path) -> None:
    """Documents begin with BOS and end with EOS once; packed rows are the same tokens; a heading is one token, its
    letters in an answer are not."""
    pairs = [
        {
            "prompt": [{"role": "user", "content": f"a {i}?"}],
            "chosen": f"b {i}",
            "rejected": "### Better:",
            "source": "s",
        }
        for i in range(5)
    ]
    demo_llm_text.make_tokenizer(pairs, 300, tmp_path / "words")
    words = Tokenizer(tmp_path / "words")
    documents = demo_llm_text.documents(pairs, words, 96)
    assert len(documents) == 10
    assert all(row[0] == words.bos and row[-1] == words.eos and row.count(words.eos) == 1 for row in documents)
    assert words.decode(documents[0][1:]) == "a 0?b 0" or words.decode(documents[0][1:]) == "a 0?### Better:"
    rows = demo_llm_text.packed(documents, 8, seed=0)
    assert {len(first) + len(rest) for first, rest in rows} == {8}
    order = np.random.default_rng(0).permutation(10)
    stream = [token for i in order for token in documents[i]]
    assert [token for row in rows for part in row for token in part] == stream[: 8 * len(rows)]
    heading = "\n\n### Better:"
    assert len(words.encode(heading)) == 1 < len(words.encode(heading, special=False))


def test_unigram_perplexity_of_uniform_tokens() -> None:
    train = [(0, *range(8))] * 1000
    assert demo_llm_text.unigram_perplexity(train, [(0, 3, 5)], 8) == pytest.approx(8, abs=1e-9)
    assert demo_llm_text.unigram_perplexity([(0, 1, 1)], [(0, 1), (0, 0)], 2) == pytest.approx(
        math.exp(-math.log(3 / 4) / 2 - math.log(1 / 4) / 2), abs=1e-12
    )


def test_the_page_is_that_of_the_stored_numbers() -> None:
    stored = json.loads(RESULT.read_text("utf-8"))
    assert (ROOT / "docs" / "benchmarks" / "demo-llm.md").read_text("utf-8") == demo_llm_page.page(stored)
    assert set(demo_llm_page.STAGES) == {stage.__name__ for stage in STAGES}


def test_the_verdict_follows_the_second_judge() -> None:
    """A baseline is above MPO where its win rate exceeds 1/2 by more than 1.96 standard errors."""
    names, wins = ["MPO", "INPO"], [[0.5, 0.45], [0.55, 0.5]]
    table = {"names": names, "wins": wins, "error": [[None, 0.02], [0.02, None]]}
    assert "MPO is not unbeaten" in demo_llm_page.verdict({"evaluation": {"second": table}})
    assert "INPO wins 55.0 ± 3.9 %" in demo_llm_page.verdict({"evaluation": {"second": table}})
    table["error"] = [[None, 0.026], [0.026, None]]
    assert demo_llm_page.verdict({"evaluation": {"second": table}}).startswith("MPO is unbeaten")

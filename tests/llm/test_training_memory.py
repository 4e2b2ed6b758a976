"""What `mpo train` holds while a judge is asked is what it has said that it needs."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import pytest

import llm_bridge as bridge
from llm_bridge.weights import count
from tests.llm.test_mpo_cli import CONFIG, train, work
from tests.llm.test_tokenizer import tokenizer

assert work  # a fixture
WIDE = CONFIG | {"hidden_size": 96, "intermediate_size": 512}
WAYS = {
    (): 5,  # policy, magnet, start and two moments; the given model is gone
    ("--eval-dataset-name", "prompts.jsonl"): 6,
    ("--set", "first_moment=bfloat16", "watch_start=false"): 3.5,
}
JUDGE = """
import jax
import numpy as np

def held(prompts, a, b):
    with open("held", "a") as file:
        print(sum(array.nbytes for array in jax.live_arrays()), file=file)
    return np.full(len(a), 0.5)
"""


@pytest.mark.parametrize("words", WAYS)
def test_copies_of_the_weights(words: tuple[str, ...], work: Path, tmp_path_factory: Any) -> None:
    folder = tokenizer(tmp_path_factory.mktemp("wide") / "words")
    (folder / "config.json").write_text(json.dumps(WIDE))
    policy = bridge.init(folder, jax.random.key(0))
    model, copy = bridge.save(policy, folder.parent / "model"), 4 * count(policy.architecture)
    del policy
    (work / f"{os.environ['JUDGES']}.py").write_text(JUDGE)
    before = sum(array.nbytes for array in jax.live_arrays())
    assert train(model, "run", "--quiet", *words, judge="held", steps=2) == 0
    during = [int(line) - before for line in Path("held").read_text().split()]
    assert len(during) >= 2
    for held in during:
        assert abs(held / copy - WAYS[words]) < 0.1

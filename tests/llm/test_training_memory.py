"""What `mpo train` holds while a judge is asked, and at its peak, is what it has said that it needs."""

import gc
import json
import os
from pathlib import Path
from typing import Any

import jax
import pytest

import llm_bridge as bridge
from benchmarks.device import training_memory
from llm_bridge.model.weights import count
from tests.llm.test_mpo_cli import CONFIG, train, work
from tests.llm.test_tokenizer import tokenizer

assert work  # a fixture
WIDE = CONFIG | {"hidden_size": 96, "intermediate_size": 512}
WAYS = {
    (): 5,  # policy, magnet, start and two moments; the given model is gone
    ("--eval-dataset-name", "prompts.jsonl"): 5,  # the start has answered before it goes
    ("--set", "first_moment=bfloat16", "watch_start=false"): 3.5,
}
JUDGE = """
import jax
import numpy as np

def held(prompts, a, b):
    if len(prompts) != 3:  # it is tried on so many before the model is loaded
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
    gc.collect()  # what tests before have left would go meanwhile
    before = sum(array.nbytes for array in jax.live_arrays())
    assert train(model, "run", "--quiet", *words, judge="held", steps=2) == 0
    during = [int(line) - before for line in Path("held").read_text().split()]
    assert len(during) >= 2
    for held in during:
        assert abs(held / copy - WAYS[words]) < 0.1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is known on Linux")
def test_on_a_cpu_the_estimate_is_at_least_the_peak_and_at_most_a_quarter_more(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """C5, of a small model; `benchmarks/results/training_memory.json` has other ways to train."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # one device, as a user has it
    training_memory.prepare(tmp_path, "small")
    found = training_memory.measure(tmp_path, "small")
    assert 1 <= found["predicted_over_measured"] <= 1.25, found

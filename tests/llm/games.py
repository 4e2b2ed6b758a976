"""A tiny policy and a preference between its responses that runs in a cycle."""

from collections.abc import Sequence
from functools import cache

import jax
import numpy as np
from jax.sharding import Mesh

import llm_bridge as bridge

CONFIG = {
    "model_type": "llama",
    "vocab_size": 4,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
CYCLE = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
PROMPTS = [[0], [1, 2]]
SIZES = {"group_size": 8, "prompts_per_round": 2, "max_new_tokens": 3, "epochs": 3, "learning_rate": 1e-2, "eps": 1e-3}


@cache
def policy(mesh: Mesh | None = None) -> bridge.Policy:
    """The same in every test: training leaves the policy that it is given alone."""
    return bridge.init(CONFIG, jax.random.key(0), mesh=mesh)


class SumJudge:
    """Prefers by the sum of token ids modulo 3, in a cycle; it counts how many pairs it was asked about."""

    symmetric = True

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, prompts: Sequence, a: Sequence, b: Sequence) -> np.ndarray:
        self.asked += len(prompts)
        classes = [np.array([sum(response) % 3 for response in side], int) for side in (a, b)]
        return CYCLE[classes[0], classes[1]]

"""A language model as judge: the probability that it says A, against that it says B, when asked which is better.

Nothing is generated. The question (see `_question`) ends where the answer's first token comes, and the logits of the
two options there are all that is needed: P(a preferred) = p(A) / (p(A) + p(B)). Models favour what they read first, so
both orders have to be asked and averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.judges._question import CRITERION, question
from llm_bridge.judges._reading import batches, last_activations, on_mesh
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.network import Network, Weights
from llm_bridge.policy.policy import Policy
from llm_bridge.text.tokenizer import Tokenizer

WITHOUT_TEMPLATE = "\n\nVerdict:"


@dataclass(frozen=True, eq=False)
class GenerativeJudge:
    """A judge that asks a policy; called with `(prompts, a, b)` it returns P(a preferred).

    Attributes:
        policy: which is asked.
        tokenizer: its own.
        criterion: what to compare by, one sentence.
        options: what it says for the first and for the second answer.
        rows: how many questions are read at a time, for each share of the mesh's rows.
    """

    symmetric: ClassVar[bool] = False  # asked in both orders
    deterministic: ClassVar[bool] = True

    policy: Policy
    tokenizer: Tokenizer
    criterion: str = CRITERION
    options: tuple[str, str] = ("A", "B")
    rows: int = 8

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Float[np.ndarray, " n"]:
        """P(a preferred); NaN where the question does not fit into the context.

        Raises:
            BridgeError: the options do not differ in one token, or no question can fit.
        """
        begin, options = self._options()
        asked = [self._ids(*comparison) + begin for comparison in zip(prompts, a, b, strict=True)]
        longest = self.policy.architecture.max_length
        if min(map(len, asked), default=0) > longest and (alone := len(self._ids("", "", "") + begin)) >= longest:
            name = self.policy.origin.folder or "the judge"
            raise BridgeError(
                f"{name}: a context of {longest} tokens does not hold the question that a judge is asked, of {alone} "
                "without prompt and answers; choose a judge with a longer one"
            )
        decoder, found = self.policy.decoder, np.full(len(asked), np.nan)
        given = [ids if len(ids) <= longest else [] for ids in asked]
        for index, tokens, mask in batches(given, self.rows, decoder.mesh):
            tokens, mask = self.policy.batch(tokens, mask)
            odds = log_odds(decoder, self.policy.arrays(), tokens, mask, on_mesh(decoder, options))
            found[index] = 0.5 + 0.5 * np.tanh(np.asarray(odds, np.float64)[: len(index)] / 2)
        return found

    def _ids(self, prompt: str, a: str, b: str) -> list[int]:
        text = question(prompt, a, b, self.criterion)
        if self.tokenizer.has_template:
            return self.tokenizer.prompt([{"role": "user", "content": text}])
        return self.tokenizer.prompt(text + WITHOUT_TEMPLATE)

    def _options(self) -> tuple[list[int], Int[np.ndarray, " 2"]]:
        """What both options begin with, and the tokens in which they differ."""
        space = "" if self.tokenizer.has_template else " "
        one, other = (self.tokenizer.encode(space + option) for option in self.options)
        for at, pair in enumerate(zip(one, other, strict=False)):
            if pair[0] != pair[1]:
                return one[:at], np.array(pair, np.int32)
        raise BridgeError(f"expected options that differ in a token of the judge, got {self.options}")


@partial(jax.jit, static_argnames="decoder")
def log_odds(
    decoder: Network, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"], options: Int[Array, " 2"]
) -> Float[Array, " B"]:
    """Log p(A) - log p(B) of the token that comes next, in which the normalisation cancels."""
    logits = decoder.logits(weights, last_activations(decoder, weights, tokens, mask))
    both = jnp.take(logits, options, axis=1)
    return both[:, 0] - both[:, 1]

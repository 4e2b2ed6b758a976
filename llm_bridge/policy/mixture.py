"""Two decoders that write together: each token is drawn from the geometric mixture of their distributions.

    pi'(v | s)  ~  pi(v | s)^(1 - share)  mu(v | s)^share,    normalised at each prefix

Source: Munos et al., "Nash Learning from Human Feedback", ICML 2024, section 7 (Nash-MD-PG draws opponents so). Each of
the two keeps its own cache, so a token costs one forward pass of one token of each.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from llm_bridge.model.architecture import Outline
from llm_bridge.model.network import Network, Weights


@dataclass(frozen=True)
class Mixture:
    """A decoder of two sets of weights, as far as generation needs one.

    Its weights and caches are pairs. Its activations are logits already: the mixture's log-probabilities, before they
    are normalised.

    Attributes:
        decoder: the function that both sets of weights belong to.
        share: weight of the second one in the geometric mixture, in [0, 1].
    """

    decoder: Network
    share: float

    @property
    def architecture(self) -> Outline:
        """The architecture of both."""
        return self.decoder.architecture

    @property
    def mesh(self) -> Mesh:
        """The mesh that both lie on."""
        return self.decoder.mesh

    def prefill(
        self,
        weights: tuple[Weights, Weights],
        tokens: Int[Array, "N P"],
        padding: Int[Array, " N"],
        n_slots: int,
        copies: int = 1,
    ) -> tuple[Float[Array, "B V"], tuple[Any, Any]]:
        """Read left-padded prompts with both: the mixture's logits [B, V] after the last token, and two caches."""
        both = (self.decoder.prefill(each, tokens, padding, n_slots, copies) for each in weights)
        hidden, caches = zip(*both, strict=True)
        return self._mixed(weights, hidden), caches

    def apart(self, weights: tuple[Weights, Weights], cache: tuple[Any, Any], n_tokens: int) -> tuple[Any, Any]:
        """Both weights and both caches in the form that `step` is fastest with for so many tokens."""
        both = (self.decoder.apart(each, own, n_tokens) for each, own in zip(weights, cache, strict=True))
        return tuple(zip(*both, strict=True))  # pyrefly: ignore[bad-return] - two of each

    def step(
        self,
        weights: tuple[Any, Any],
        tokens: Int[Array, " B"],
        slot: Int[Array, ""],
        cache: tuple[Any, Any],
    ) -> tuple[Float[Array, "B V"], tuple[Any, Any]]:
        """Append one token to every row of both, in the same slot: the mixture's logits [B, V], and the two caches."""
        both = (self.decoder.step(each, tokens, slot, own) for each, own in zip(weights, cache, strict=True))
        hidden, caches = zip(*both, strict=True)
        return self._mixed(weights, hidden), caches

    def logits(self, weights: Any, hidden: Float[Array, "... V"]) -> Float[Array, "... V"]:
        """The activations themselves, which are logits already."""
        return hidden

    def _mixed(self, weights: tuple[Weights, Weights], hidden: tuple[Array, Array]) -> Float[Array, "B V"]:
        logits = (self.decoder.logits(each, h) for each, h in zip(weights, hidden, strict=True))
        ours, theirs = map(jax.nn.log_softmax, logits)
        return (1 - self.share) * ours + self.share * theirs

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

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.decoder import Cache, Decoder, Weights


@dataclass(frozen=True)
class Mixture:
    """Has of a `Decoder` what generation calls; its weights are a pair, and its activations the mixture's logits.

    Attributes:
        decoder: of both.
        share: of the second, in [0, 1].
    """

    decoder: Decoder
    share: float

    @property
    def architecture(self) -> Architecture:
        """Of both."""
        return self.decoder.architecture

    @property
    def mesh(self) -> Mesh:
        """Where both lie."""
        return self.decoder.mesh

    def prefill(
        self, weights: tuple[Weights, Weights], tokens: Int[Array, "B P"], padding: Int[Array, " B"], n_slots: int
    ) -> tuple[Float[Array, "B V"], tuple[Cache, Cache]]:
        """See `Decoder`."""
        hidden, caches = zip(*(self.decoder.prefill(each, tokens, padding, n_slots) for each in weights), strict=True)
        return self._mixed(weights, hidden), caches

    def apart(self, weights: tuple[Weights, Weights], cache: tuple[Cache, Cache]) -> tuple[Any, Any]:
        """See `Decoder`."""
        both = (self.decoder.apart(each, own) for each, own in zip(weights, cache, strict=True))
        return tuple(zip(*both, strict=True))  # pyright: ignore[reportReturnType] - two of each

    def step(
        self,
        weights: tuple[Any, Any],
        tokens: Int[Array, " B"],
        slot: Int[Array, ""],
        cache: tuple[Cache, Cache],
    ) -> tuple[Float[Array, "B V"], tuple[Cache, Cache]]:
        """See `Decoder`."""
        both = (self.decoder.step(each, tokens, slot, own) for each, own in zip(weights, cache, strict=True))
        hidden, caches = zip(*both, strict=True)
        return self._mixed(weights, hidden), caches

    def logits(self, weights: Any, hidden: Float[Array, "... V"]) -> Float[Array, "... V"]:
        """Activations are logits already."""
        return hidden

    def _mixed(self, weights: tuple[Weights, Weights], hidden: tuple[Array, Array]) -> Float[Array, "B V"]:
        logits = (self.decoder.logits(each, h) for each, h in zip(weights, hidden, strict=True))
        ours, theirs = map(jax.nn.log_softmax, logits)
        return (1 - self.share) * ours + self.share * theirs

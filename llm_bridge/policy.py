"""A language model as a policy: tokens are actions, prefixes are information sets, `log_probs` is what training needs.

A `Policy` is a Flax NNX module whose parameters lie on a mesh; `nnx.Optimizer`, `nnx.grad` and `nnx.jit` work on it.
Its methods compile themselves, once for each shape. The magnet or the reference of a training run is another `Policy`,
a `copy`, because donated buffers of one must not be buffers of the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from llm_bridge import scoring, sharding
from llm_bridge.architecture import Architecture, BridgeError
from llm_bridge.decoder import Decoder
from llm_bridge.scoring import Comparison


@dataclass(frozen=True)
class Origin:
    """Where a policy comes from: what `save` writes besides weights.

    Attributes:
        model_type: its family.
        config: the text of its `config.json`.
        folder: the checkpoint's, for its tokenizer files; None if it has none.
    """

    model_type: str
    config: str
    folder: str | None = None


class Policy(nnx.Module):
    """A decoder with weights.

    Attributes:
        decoder: the function that the weights are put into.
        origin: where the policy comes from.
        weights: parameters by name (see `llm_bridge.weights`); those of all layers are one array, layers first.
    """

    def __init__(self, decoder: Decoder, weights: Mapping[str, Array], origin: Origin):
        self.decoder = decoder
        self.origin = origin
        self.weights = nnx.Dict(
            {name: (nnx.LoRAParam if ".lora_" in name else nnx.Param)(value) for name, value in weights.items()}
        )

    @property
    def architecture(self) -> Architecture:
        """What it computes."""
        return self.decoder.architecture

    @property
    def mesh(self) -> Mesh:
        """Where its weights lie."""
        return self.decoder.mesh

    def arrays(self) -> dict[str, Array]:
        """The weights as plain arrays."""
        return {name: parameter[...] for name, parameter in self.weights.items()}

    def copy(self) -> "Policy":
        """The same policy in buffers of its own."""
        return Policy(self.decoder, jax.tree.map(jnp.copy, self.arrays()), self.origin)

    def with_compute(self, **changes: Any) -> "Policy":
        """The same weights, not copied, with attributes of `Compute` changed, such as `dtype="bfloat16"`."""
        decoder = replace(self.decoder, compute=replace(self.decoder.compute, **changes))
        return Policy(decoder, self.arrays(), self.origin)

    def log_probs(
        self, tokens: Int[Any, "B T"], mask: Bool[Any, "B T"] | Int[Any, "B T"], *, chunk: int | None = None
    ) -> Float[Array, "B T"]:
        """Log-probability of each token given those before it in its row, nats, float32.

        Args:
            tokens: token ids; rows are padded before or after, or both.
            mask: which of them are tokens and not padding.
            chunk: of how many tokens a row the logits are made at a time; None for what 64 MiB hold. Changes nothing
                but memory and time.

        Returns:
            Entry (b, t) is that of token t; 0 at the first token of a row and at padding.

        Raises:
            BridgeError: a token is not in the vocabulary, or a row is longer than the context.
        """
        tokens, mask = self.batch(tokens, mask)
        return scoring.log_probs(self.decoder, self.arrays(), tokens, mask, chunk or self._chunk(tokens))

    def compare(
        self,
        magnet: "Policy",
        tokens: Int[Any, "B T"],
        mask: Bool[Any, "B T"] | Int[Any, "B T"],
        *,
        chunk: int | None = None,
    ) -> Comparison:
        """`log_probs` of this policy and of a magnet, with the exact KL divergence from it, in one pass.

        Differentiable with respect to both. Arguments and errors are those of `log_probs`.

        Raises:
            BridgeError: also if the vocabularies differ.
        """
        ours, theirs = self.architecture.vocabulary, magnet.architecture.vocabulary
        if ours != theirs:
            raise BridgeError(f"expected a magnet with the same vocabulary of {ours} tokens, got {theirs}")
        batch = self.batch(tokens, mask)
        chunk = chunk or self._chunk(batch[0])
        return scoring.compare(self.decoder, self.arrays(), magnet.decoder, magnet.arrays(), batch, chunk)

    def batch(
        self, tokens: Int[Any, "B T"], mask: Bool[Any, "B T"] | Int[Any, "B T"]
    ) -> tuple[Int[Array, "B T"], Bool[Array, "B T"]]:
        """Tokens and mask on the mesh, rows divided; checked where their values are known."""
        if not isinstance(tokens, Tracer) and not isinstance(mask, Tracer):
            tokens, mask = self._checked(tokens, mask)
        place = sharding.rows(self.mesh, 2)
        tokens, mask = jnp.asarray(tokens, jnp.int32), jnp.asarray(mask, bool)
        return jax.lax.with_sharding_constraint(tokens, place), jax.lax.with_sharding_constraint(mask, place)

    def _checked(self, tokens: Any, mask: Any) -> tuple[Any, Any]:
        if any(isinstance(array, jax.Array) and not array.is_fully_addressable for array in (tokens, mask)):
            return tokens, mask  # each process knows its own rows only
        tokens, mask = np.asarray(tokens, np.int32), np.asarray(mask, bool)
        a = self.architecture
        if tokens.shape != mask.shape or tokens.ndim != 2:
            raise BridgeError(f"expected tokens and mask of one shape [B, T], got {tokens.shape} and {mask.shape}")
        check_tokens(tokens[mask], a.vocabulary)
        longest = int(mask.sum(axis=1).max(initial=0))
        if longest > a.max_length:
            raise BridgeError(f"a row has {longest} tokens, more than the context of {a.max_length}")
        return tokens, mask

    def _chunk(self, tokens: Array) -> int:
        n_rows = -(-tokens.shape[0] // sharding.n_row_shares(self.mesh))
        return scoring.chunk_length(n_rows, tokens.shape[1], self.architecture.vocabulary)


def check_tokens(tokens: Int[np.ndarray, " n"], vocabulary: int) -> None:
    """That token ids are in the vocabulary.

    Raises:
        BridgeError: one is not.
    """
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < vocabulary):
        wrong = tokens[(tokens < 0) | (tokens >= vocabulary)][0]
        raise BridgeError(f"token {wrong} is not in the vocabulary of {vocabulary} tokens")

"""A language model as a function of its weights: what policies, the generator and the learner know of one.

`Decoder` is this package's own; `llm_bridge.model.wrapped` makes one of a Flax module from anywhere. Both are frozen
dataclasses without arrays, so they are static arguments of compiled functions; weights are one flat dictionary.
"""

from collections.abc import Iterable
from typing import Any

from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model.architecture import Outline

Weights = dict[str, Array]
ADAPTER = ".lora_"  # in the names of an adapter's weights, which alone are trained where there are some
BUFFER = ".buffer_"  # in the names of what is no weight: tables, counters; never trained


class Network:
    """A language model as a function of its weights.

    Attributes:
        architecture: what gives the vocabulary and the longest row.
        mesh: where rows and caches lie.
        temperature: what logits are divided by; a part of the policy, so of all that is made of it.
    """

    architecture: Any
    mesh: Mesh
    temperature: float

    @property
    def shares_prompts(self) -> bool:
        """Whether a prompt may be read once for all of its answers."""
        return False

    def hidden(self, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        """What the token after each one is predicted from. Padding, False in the mask, may be anywhere."""
        raise NotImplementedError

    def answers(
        self,
        weights: Weights,
        prompts: tuple[Int[Array, "N P"], Bool[Array, "N P"]],
        answers: tuple[Int[Array, "B R"], Bool[Array, "B R"]],
    ) -> Float[Array, "B R D"]:
        """What each token of answers is predicted from, where a prompt is read once for its answers."""
        raise NotImplementedError

    def read(self, weights: Weights, prompts: tuple[Int[Array, "N P"], Bool[Array, "N P"]]) -> Any:
        """Read prompts padded on the left, for `continued`."""
        raise NotImplementedError

    def continued(
        self,
        weights: Weights,
        read: Any,
        real: Bool[Array, "N P"],
        answers: tuple[Int[Array, "B R"], Bool[Array, "B R"]],
        of: Int[Array, "S m"],
    ) -> Float[Array, "B R D"]:
        """What each token of answers is predicted from; the prompts were read, and row i follows prompt `of[i]`."""
        raise NotImplementedError

    def prefill(
        self, weights: Any, tokens: Int[Array, "N P"], padding: Int[Array, " N"], n_slots: int, copies: int = 1
    ) -> tuple[Float[Array, "B D"], Any]:
        """Read prompts padded on the left, before the first token is drawn."""
        raise NotImplementedError

    def apart(self, weights: Any, cache: Any, n_tokens: int) -> tuple[Any, Any]:
        """Weights and cache in the form that `step` is fastest with for so many tokens."""
        return weights, cache

    def step(
        self, weights: Any, tokens: Int[Array, " B"], slot: Int[Array, ""], cache: Any
    ) -> tuple[Float[Array, "B D"], Any]:
        """Append one token to every row, in the same slot."""
        raise NotImplementedError

    def logits(self, weights: Any, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Float32 logits over the vocabulary, temperature included."""
        raise NotImplementedError

    def head(self, weights: Any) -> tuple[str, Array] | None:
        """The one array that `logits` needs, with its name, where devices may make logits of their own rows alone."""
        return None

    def fixed(self, weights: Weights) -> "Network":
        """The same, computing in the precision of these weights, whatever precision it is then given others in."""
        raise NotImplementedError

    def placed(self, names: Iterable[str], mesh: Mesh | None) -> tuple["Network", dict[str, NamedSharding]]:
        """The same on another mesh, None for the first device; and where weights of these names lie there.

        Raises:
            BridgeError: the mesh cannot divide them.
        """
        raise NotImplementedError

    def dtype(self, weights: Any) -> Any:
        """The precision that the weights have in the main."""
        raise NotImplementedError

    def described(self) -> str:
        """Its sizes, for people to read."""
        outline: Outline = self.architecture
        return f"vocabulary {outline.vocabulary:,}, context {outline.max_length:,}"


def is_trained(name: str, *, adapted: bool) -> bool:
    """Whether a weight of this name is, in a policy with or without an adapter."""
    return ADAPTER in name if adapted else BUFFER not in name

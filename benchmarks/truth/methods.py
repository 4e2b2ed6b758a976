"""Methods of the truth test that keep responses of earlier rounds, which no method of the package does.

    Optimistic    pi_k+1 ~ pi_k exp(eta (2 P(y > pi_k) - P(y > pi_k-1))): the opponents of the round before stand for
                  the gradient there (Popov 1980; Chen et al. 2025, optimistic multiplicative weights for preferences)
    Replayed      MPO on the responses of the last rounds together, y of round j weighed by pi_k(y) / pi_j(y)

Weights are normalised in each group and cut off, so that a response that was unlikely when it was drawn does not take
the whole group.
"""

from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

import llm_bridge as bridge
from llm_bridge.train.arena import Samples, Source
from llm_bridge.train.loop import Method
from llm_bridge.train.objective import Judged, Numbers, Objective, Regression, payoffs
from llm_bridge.train.train_state import TrainState

LARGEST_WEIGHT = 4.0


class Memory(NamedTuple):
    """Responses of the last rounds, the newest first; zeros before there were as many.

    Attributes:
        tokens, mask, response: as in `Samples`.
        log_probs: of each response by the policy that drew it.
    """

    tokens: Int[Array, "K N G T"]
    mask: Bool[Array, "K N G T"]
    response: Bool[Array, "K N G T"]
    log_probs: Float[Array, "K N G"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Remembering(TrainState):
    """A state with the responses of some rounds; None until there is room for them."""

    memory: Any = None


def with_room(method: Method, state: TrainState, n_prompts: int, length: int) -> TrainState:
    """The state with room for what a method remembers, if it does."""
    rounds = getattr(method, "rounds", 0)
    if not rounds:
        return state
    shape = (rounds, n_prompts, method.group_size, length)
    nothing = jnp.zeros(shape, bool)
    memory = Memory(jnp.zeros(shape, jnp.int32), nothing, nothing, jnp.zeros(shape[:-1], jnp.float32))
    return Remembering(**{f.name: getattr(state, f.name) for f in fields(TrainState)}, memory=memory)


def remembered(state: Any, samples: Samples) -> Remembering:
    """With the newest responses first, the oldest forgotten."""
    shape = state.memory.tokens.shape[1:]
    tokens, mask, response = (part.reshape(shape) for part in (samples.tokens, samples.mask, samples.response))
    newest = Memory(tokens, mask, response, jnp.sum(samples.log_probs.reshape(shape), axis=-1))
    memory = jax.tree.map(lambda kept, new: jnp.concatenate([new[None], kept[:-1]]), state.memory, newest)
    return replace(state, memory=memory)


def together(memory: Memory) -> tuple[Samples, Float[Array, "N KG"]]:
    """All rounds as one group a prompt, and the log-probabilities of its responses when they were drawn."""

    def joined(part: Array) -> Array:
        return jnp.swapaxes(part, 0, 1).reshape(part.shape[1], -1, *part.shape[3:])

    rows = [joined(part) for part in memory[:3]]
    tokens, mask, response = (part.reshape(-1, part.shape[-1]) for part in rows)
    return Samples(tokens, mask, response, jnp.zeros(tokens.shape, jnp.float32)), joined(memory.log_probs)


@dataclass(frozen=True)
class Optimistic(Method):
    """Optimistic multiplicative weights; alpha has no part in it."""

    has_magnet: ClassVar[bool] = False
    rounds: ClassVar[int] = 1

    def objective(self) -> Objective:
        """Mirror descent's closed form."""
        return Regression()

    def numbers(self, state: TrainState) -> Numbers:
        """No magnet."""
        return super().numbers(state)._replace(alpha=jnp.zeros((), jnp.float32))

    def play(self, state: Any, arena: Any) -> tuple[TrainState, dict[str, Array]]:
        """Payoffs against this round's opponents twice, less those against the last round's."""
        samples = arena.draw(self.source(state), self.group_size, state.round_key())
        preference = arena.compare(samples)
        payoff = payoffs(preference)
        before = payoffs(arena.compare(samples, together(state.memory)[0]), own=False)
        hint = jnp.where(state.round == 0, 0, payoff - before)
        state, metrics = self.learn(state, samples, Judged(payoff + hint, preference))
        return self.settle(remembered(state, samples)), metrics


@dataclass(frozen=True)
class Replayed(bridge.MPO):
    """MPO with a memory.

    Attributes:
        rounds: K, whose responses are used, the newest one's included.
        opponents_only: whether the old responses are opponents of the newest and are not trained on.
    """

    _: KW_ONLY
    rounds: int = 8
    opponents_only: bool = False

    def play(self, state: Any, arena: Any) -> tuple[TrainState, dict[str, Array]]:
        """A round on this one's responses and the memory's."""
        newest = arena.draw(self.source(state), self.group_size, state.round_key())
        state = remembered(state, newest)
        samples, drawn = together(state.memory)
        share = self._share(state, samples, drawn, arena)
        if self.opponents_only:
            preference = arena.compare(newest, samples)
            judged = Judged(payoffs(preference, share, own=False), preference)
            state, metrics = self.learn(state, newest, judged)
        else:
            preference = arena.compare(samples)
            judged = Judged(payoffs(preference, share), preference)
            state, metrics = self.learn(state, samples._replace(share=share), judged)
        return self.settle(state), metrics

    def _share(self, state: TrainState, samples: Samples, drawn: Array, arena: Any) -> Float[Array, "N KG"]:
        """Weight of each response in its group, the rounds that have not been yet having none."""
        source = Source(state.frame.decoder, state.whole(state.weights))
        now = arena.log_probs_of(source, samples).reshape(drawn.shape)
        ratio = jnp.minimum(jnp.exp(now - drawn), LARGEST_WEIGHT)
        age = jnp.arange(drawn.shape[1], dtype=jnp.int32) // self.group_size
        ratio = jnp.where(age[None, :] <= state.round, ratio, 0)
        return jax.lax.stop_gradient(ratio / jnp.sum(ratio, axis=1, keepdims=True))

"""The inside of a round: E optimizer steps on its rows, compiled as one function.

    seen      =  a forward pass: log-probabilities of the sampled tokens, divergences from the magnet
    gradient  =  of objective(seen, judged, numbers)
    weights   =  weights - learning rate * Adam's direction                 E times, on the same rows

What does not change in a round is computed once: what the magnet, pi_k and the start predict each token from, or their
log-probabilities where these are enough. Where responses are the last columns (`Samples.answers`), logits are made for
these alone, and a prompt goes through the model once for its whole group.

Gradients may be accumulated over parts of the prompts; a part holds whole groups, because some objectives compare the
responses of a group. A step whose loss, gradient or learning rate is not finite does not happen, is counted, and leaves
every weight and moment as it was, bit for bit. Adam's direction is bounded, so these three decide it before anything
new is made.

What is trained and the optimizer's state are donated: their buffers become those of the result.

Letters: as in `llm_bridge.train.arena`; R last tokens of a row, among which its response is; V vocabulary, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model import sharding
from llm_bridge.model.network import Network, Weights
from llm_bridge.policy import scoring
from llm_bridge.train.arena import Samples
from llm_bridge.train.objective import Judged, Numbers, Objective, Seen

LARGEST = "sampling/sampling_logp_difference/max"
UNKNOWN = jnp.inf  # in place of a log-probability that the first forward pass will give


@cache
def adam(
    b1: float, b2: float, eps: float, max_grad_norm: float | None, first_moment: str = "float32"
) -> optax.GradientTransformation:
    """Adam's direction (Kingma and Ba 2015); the same object for the same numbers, so programs are compiled once."""
    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    dtype = None if first_moment == "float32" else first_moment  # None for the weights' own
    return optax.chain(clip, optax.scale_by_adam(b1=b1, b2=b2, eps=eps, mu_dtype=dtype))


class Once(NamedTuple):
    """What is computed once a round.

    Attributes:
        hidden: what the magnet, pi_k and the start predict each token from, those of them whose whole distributions are
            compared, in this order.
        magnet, initial: log-probabilities of the tokens by the magnet and by the start, where these are enough.
    """

    hidden: tuple[Float[Array, "_ R D"], ...]
    magnet: Float[Array, "B R"] | None
    initial: Float[Array, "B R"] | None


class RoundRows(NamedTuple):
    """A round's rows, or those of some of its prompts.

    Attributes:
        tokens, mask: as in `Samples`.
        response: which of the last R tokens are the responses'.
        share: each response's weight in the round's mean.
        judged: what the judge says of them.
        once: what is computed once a round, part by part if there are several; None before that.
        before: log-probabilities by pi_k, `UNKNOWN` before the first step.
        prompts: what was read before these rows, where they begin after it (`llm_bridge.train.packing`).
    """

    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]
    response: Bool[Array, "B R"]
    share: Float[Array, "N G"]
    judged: Judged
    once: Once | None
    before: Float[Array, "B R"]
    prompts: Any = None

    @property
    def targets(self) -> Int[Array, "B R"]:
        """The last R tokens."""
        return self.tokens[:, -self.response.shape[1] :]


@dataclass(frozen=True)
class Learner:
    """How a round's rows are learned from; hashable, so that equal learners share a compiled program.

    Attributes:
        decoder: what is trained.
        objective: what is minimised.
        optimizer: gives the direction of a step; the learning rate is multiplied afterwards.
        epochs: E, steps.
        prompts_at_a_time: whose gradient is computed at once; None for all.
        answers: as of `Samples`.
        replays: whether shares are weights of draws (`llm_bridge.train.replay`), and not all responses' probabilities.
    """

    decoder: Network
    objective: Objective
    optimizer: optax.GradientTransformation
    epochs: int
    prompts_at_a_time: int | None
    answers: int | None = None
    replays: bool = False

    def steps(
        self, trained: Any, samples: Samples, judged: Judged, numbers: Numbers, rate: Array, others: Any
    ) -> tuple[Any, dict[str, Array]]:
        """E steps; to be called as `sharding.program` compiles it.

        Args:
            trained: weights, the optimizer's state, and counters, as in `TrainState`; used up.
            samples: the rows.
            judged: what the judge says of them.
            numbers: eta and alpha.
            rate: the learning rate.
            others: base, magnet and initial weights, as in `TrainState`.

        Returns:
            What is trained, and metrics: of the first step, where the policy is the one that has sampled; `kl/step` of
            the last. Divergences are means over responses of sums over tokens, nats; entropy is a mean over tokens.
            `kl/magnet` and `kl/initial` have one estimator, so they agree where magnet and start do: the exact
            divergence at each sampled prefix where the objective visits the magnet's whole distributions, otherwise
            the log-ratio of the sampled tokens, which may be negative.
        """
        base, magnet, initial = others
        n_prompts = judged.payoff.shape[0]
        n_parts = n_prompts // (self.prompts_at_a_time or n_prompts)
        heads = self._heads(base, magnet, trained[0], initial)
        rows = self._rows(samples, judged)
        rows = rows._replace(once=_by_parts(partial(self._once, heads, base, magnet, initial), n_parts)(rows))
        sampled = samples.share is None or self.replays
        loss = partial(self.loss, base=base, heads=heads, numbers=numbers, sampled=sampled)
        loss_and_gradient = _summed_by_parts(jax.value_and_grad(loss, has_aux=True), n_parts)
        log_probs = samples.log_probs[:, -rows.response.shape[1] :]

        def step(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], dict[str, Array]]:
            (weights, optimizer, counters), before = carry
            (value, (seen, to_initial)), gradient = loss_and_gradient(weights, rows._replace(before=before))
            new, norm = self._updated((weights, optimizer, counters), value, gradient, rate)
            metrics = {"loss": value, "grad_norm": norm} | metrics_of(sums(seen, log_probs, to_initial))
            return (new, seen.before), metrics

        (after, _), found = jax.lax.scan(step, (trained, rows.before), length=self.epochs)
        return self._ended(trained[2], after, found)

    def _ended(self, counters: Any, after: Any, found: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
        """What `steps` returns, from the counters before it, and from what is trained and each step's metrics."""
        weights, optimizer, now = after
        metrics = {name: values[0] for name, values in found.items()} | {"kl/step": found["kl/step"][-1]}
        metrics["skipped"] = (now.skipped - counters.skipped).astype(jnp.float32)
        first = jnp.where(jnp.isnan(counters.first_entropy), metrics["entropy"], counters.first_entropy)
        return (weights, optimizer, now._replace(first_entropy=first)), metrics

    def loss(
        self,
        weights: Weights,
        rows: RoundRows,
        base: Weights,
        heads: tuple[Weights, ...],
        numbers: Numbers,
        sampled: bool,
    ) -> tuple[Float[Array, ""], tuple[Seen, Float[Array, "B R"] | None]]:
        """The loss of some prompts' rows, to be added to that of the others, and what the forward pass showed.

        Args:
            weights: which are trained.
            rows: the rows.
            base: all other weights.
            heads: weights of those whose whole distributions are compared, as `Once.hidden`.
            numbers: eta and alpha.
            sampled: whether the responses are draws.

        Returns:
            The loss; what is seen, and what estimates the divergence from the start, token by token.
        """
        once = rows.once
        assert once is not None
        hidden = self._activations(base | weights, rows)
        both = [(self.decoder, each) for each in (base | weights, *heads)]
        found = scoring.visit(
            both, (hidden, *once.hidden), rows.targets, _of_distributions, self._chunk(rows.response.shape)
        )
        log_probs, spread, *divergences = (jnp.where(rows.response, each, 0) for each in found)
        before = jnp.where(rows.before == UNKNOWN, jax.lax.stop_gradient(log_probs), rows.before)
        to_magnet = divergences.pop(0) if self.objective.magnet == "whole" else None
        to_policy = divergences.pop(0) if self.objective.proximal else None
        to_initial = divergences.pop() if divergences else None if once.initial is None else log_probs - once.initial
        seen = Seen(rows.response, rows.share, log_probs, before, once.magnet, spread, to_magnet, to_policy, sampled)
        seen_of_all = (seen._replace(sampled=None), jax.lax.stop_gradient(to_initial))
        return self.objective(seen, rows.judged, numbers), seen_of_all

    def _rows(self, samples: Samples, judged: Judged) -> RoundRows:
        """The rows of a round, without what is computed once; only tokens that follow another one are responses'."""
        n, g = judged.payoff.shape
        n_rows, length = samples.tokens.shape
        share = jnp.full((n, g), 1 / g, jnp.float32) if samples.share is None else samples.share
        first = length - (length - 1 if self.answers is None else self.answers)
        response = samples.response[:, first:] & samples.mask[:, first:] & samples.mask[:, first - 1 : -1]
        unknown = jnp.full((n_rows, length - first), UNKNOWN, jnp.float32)
        return RoundRows(samples.tokens, samples.mask, response, share / n, judged, None, unknown)

    def _heads(self, base: Weights, magnet: Weights, weights: Weights, initial: Weights) -> tuple[Weights, ...]:
        """Weights of those whose whole distributions are compared, in the order of `Once.hidden`."""
        whole = self.objective.magnet == "whole"
        wanted = ((magnet, whole), (weights, self.objective.proximal), (initial, whole and bool(initial)))
        return tuple(base | each for each, there in wanted if there)

    def _once(
        self, heads: tuple[Weights, ...], base: Weights, magnet: Weights, initial: Weights, rows: RoundRows
    ) -> Once:
        """What is computed once a round."""
        whole = self.objective.magnet == "whole"

        def scored(weights: Weights) -> Float[Array, "B R"]:
            everything = base | weights
            hidden = self._activations(everything, rows)
            found = scoring.scores(self.decoder, everything, hidden, rows.targets, self._chunk(rows.response.shape))
            return jnp.where(rows.response, found, 0)

        hidden = tuple(self._activations(each, rows) for each in heads)
        by_magnet = scored(magnet) if self.objective.magnet == "sampled" and magnet else None
        return Once(hidden, by_magnet, scored(initial) if initial and not whole else None)

    def _activations(self, weights: Weights, rows: RoundRows) -> Float[Array, "_ R D"]:
        group = 1 if self.answers is None else rows.share.shape[1]
        return scoring.activations(self.decoder, weights, rows[:2], rows.response.shape[1], group)

    def _updated(self, trained: Any, loss: Array, gradient: Weights, rate: Array) -> tuple[Any, Array]:
        """What is trained after a step, and the gradient's norm; only counted where something is not finite."""
        weights, state, counters = trained
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
        good = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(rate)
        with jax.numpy_dtype_promotion("standard"):  # optax raises decays to integer powers
            direction, moments = self.optimizer.update(gradient, state, weights)
        moved = jax.tree.map(lambda w, d: w - rate * d, weights, direction)
        weights, state = jax.tree.map(lambda new, old: jnp.where(good, new, old), (moved, moments), (weights, state))
        bad = (~good).astype(jnp.int32)
        in_a_row = (counters.skipped_in_a_row + bad) * bad
        return (weights, state, counters._replace(skipped=counters.skipped + bad, skipped_in_a_row=in_a_row)), norm

    def _chunk(self, shape: tuple[int, ...]) -> int:
        n_rows, n_targets = shape
        n_rows = -(-n_rows // sharding.n_row_shares(self.decoder.mesh))
        return scoring.chunk_length(n_rows, n_targets, self.decoder.architecture.vocabulary)


def _of_distributions(
    vocabulary: scoring.Vocabulary, logs: tuple[Float[Array, "B t V"], ...], targets: Array
) -> tuple[Float[Array, "B t"], ...]:
    """Log-probability of the target, entropy, and the divergence from each further policy."""
    ours, *others = logs
    divergences = (vocabulary.kl_divergence(ours, each) for each in others)
    return vocabulary.at(ours, targets), vocabulary.entropy(ours), *divergences


def _by_parts(function: Callable[[RoundRows], Any], n_parts: int) -> Callable[[RoundRows], Any]:
    """The same of all prompts' rows, computed for one part of them after another; several parts stay apart.

    What is joined and divided again would be whole on every device of a mesh in between.
    """
    return function if n_parts == 1 else lambda rows: jax.lax.map(function, _divided(rows, n_parts))


def _summed_by_parts(loss_and_gradient: Callable[..., Any], n_parts: int) -> Callable[..., Any]:
    """The same of all prompts, computed for one part of them after another: sums, and all that was seen."""
    if n_parts == 1:
        return loss_and_gradient

    def of_all(weights: Weights, rows: RoundRows) -> Any:
        def add(total: tuple[Array, Weights], part: Any) -> tuple[tuple[Array, Weights], Any]:
            (loss, seen), gradient = loss_and_gradient(weights, part)
            return (total[0] + loss, jax.tree.map(jnp.add, total[1], gradient)), seen

        nothing = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, weights))
        parts = _divided(rows._replace(once=None), n_parts)._replace(once=rows.once)  # as `_by_parts` has left it
        (loss, gradient), seen = jax.lax.scan(add, nothing, parts)
        return (loss, _joined(seen)), gradient

    return of_all


def _divided(rows: RoundRows, n_parts: int) -> Any:
    """Arrays with an axis of parts before that of rows or prompts."""
    return jax.tree.map(lambda a: a.reshape(n_parts, a.shape[0] // n_parts, *a.shape[1:]), rows)


def _joined(parts: Any) -> Any:
    """The inverse of `_divided`."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), parts)


def sums(seen: Seen, log_probs: Float[Array, "B R"], to_initial: Float[Array, "B R"] | None) -> dict[str, Array]:
    """What `metrics_of` is made of, before a step: sums over rows, and a maximum; `log_probs` are the sampler's."""

    def mean(values: Float[Array, "B R"]) -> Array:
        return jnp.sum(seen.weight * seen.by_response(values))

    ratio = seen.log_probs - seen.before  # the tokens are drawn by pi_k, so this is an estimate of KL(pi_k, pi)
    apart = jnp.where(seen.response, jnp.abs(seen.log_probs - log_probs), 0)
    found = {
        "entropy": mean(seen.entropy),
        "tokens": mean(jnp.ones_like(seen.entropy)),
        "kl/step": mean(jnp.exp(ratio) - 1 - ratio),  # k3 of Schulman 2020
        LARGEST: jnp.max(apart),
    }
    if seen.to_magnet is not None:
        found["kl/magnet"] = mean(seen.to_magnet)
    elif seen.magnet is not None:
        found["kl/magnet"] = mean(seen.log_probs - seen.magnet)
    if to_initial is not None:
        found["kl/initial"] = mean(to_initial)
    return found


def added(some: dict[str, Array], others: dict[str, Array]) -> dict[str, Array]:
    """`sums` of some rows and of others."""
    return {
        name: jnp.maximum(one, others[name]) if name == LARGEST else one + others[name] for name, one in some.items()
    }


def metrics_of(found: dict[str, Array]) -> dict[str, Array]:
    """Entropy is a mean over tokens, the others are means over responses."""
    tokens = found["tokens"]
    return {name: value for name, value in found.items() if name != "tokens"} | {"entropy": found["entropy"] / tokens}

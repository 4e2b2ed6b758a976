"""The inside of a round: E optimizer steps on its rows, compiled as one function.

    seen      =  a forward pass: log-probabilities of the sampled tokens, divergences from the magnet
    gradient  =  of objective(seen, judged, numbers)
    weights   =  weights - learning rate * Adam's direction                 E times, on the same rows

Gradients may be accumulated over parts of the prompts; a part holds whole groups, because some objectives compare the
responses of a group. A step whose loss, gradient or learning rate is not finite does not happen, is counted, and leaves
every weight and moment as it was, bit for bit. Adam's direction is bounded, so these three decide it before anything
new is made.

What is trained and the optimizer's state are donated: their buffers become those of the result.

Letters: as in `llm_bridge.train.arena`; V vocabulary, t tokens of a chunk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from llm_bridge.model import sharding
from llm_bridge.model.decoder import Decoder, Weights
from llm_bridge.policy import scoring
from llm_bridge.train.arena import Samples
from llm_bridge.train.objective import Judged, Numbers, Objective, Seen

UNKNOWN = jnp.inf  # in place of a log-probability that the first forward pass will give


@cache
def adam(
    b1: float, b2: float, eps: float, max_grad_norm: float | None, first_moment: str = "float32"
) -> optax.GradientTransformation:
    """Adam's direction (Kingma and Ba 2015); the same object for the same numbers, so programs are compiled once."""
    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    dtype = None if first_moment == "float32" else first_moment  # None for the weights' own
    return optax.chain(clip, optax.scale_by_adam(b1=b1, b2=b2, eps=eps, mu_dtype=dtype))


@dataclass(frozen=True)
class Learner:
    """How a round's rows are learned from; hashable, so that equal learners share a compiled program.

    Attributes:
        decoder: what is trained.
        objective: what is minimised.
        optimizer: gives the direction of a step; the learning rate is multiplied afterwards.
        epochs: E, steps.
        prompts_at_a_time: whose gradient is computed at once; None for all.
    """

    decoder: Decoder
    objective: Objective
    optimizer: optax.GradientTransformation
    epochs: int
    prompts_at_a_time: int | None

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
        rows, policies, to_initial = self._once(trained[0], samples, judged, others)
        sampled, n_prompts = samples.share is None, judged.payoff.shape[0]
        loss = partial(self.loss, policies=policies, numbers=numbers, sampled=sampled)
        n_parts = n_prompts // (self.prompts_at_a_time or n_prompts)
        loss_and_gradient = _by_parts(jax.value_and_grad(loss, has_aux=True), n_parts)

        def step(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], dict[str, Array]]:
            (weights, optimizer, counters), before = carry
            (value, seen), gradient = loss_and_gradient(weights, (*rows, before))
            new, norm = self._updated((weights, optimizer, counters), value, gradient, rate)
            metrics = {"loss": value, "grad_norm": norm} | _metrics(seen, samples.log_probs, to_initial)
            return (new, seen.before), metrics

        begin = (trained, jnp.full(samples.tokens.shape, UNKNOWN, jnp.float32))
        ((weights, optimizer, after), _), found = jax.lax.scan(step, begin, length=self.epochs)
        metrics = {name: values[0] for name, values in found.items()} | {"kl/step": found["kl/step"][-1]}
        counters = trained[2]
        metrics["skipped"] = (after.skipped - counters.skipped).astype(jnp.float32)
        first = jnp.where(jnp.isnan(counters.first_entropy), metrics["entropy"], counters.first_entropy)
        return (weights, optimizer, after._replace(first_entropy=first)), metrics

    def loss(
        self, weights: Weights, rows: Any, policies: tuple[Weights, ...], numbers: Numbers, sampled: bool
    ) -> tuple[Float[Array, ""], Seen]:
        """The loss of some prompts' rows, to be added to that of the others, and what the forward pass showed.

        Args:
            weights: which are trained.
            rows: samples, `share` being each response's weight in the round's mean; judged; log-probabilities [B, T] of
                the tokens by the magnet or None; and by pi_k, `UNKNOWN` before the first step.
            policies: the base, and all weights of what else is visited: the magnet ("whole"), pi_k (`proximal`).
            numbers: eta and alpha.
            sampled: whether the responses are draws.
        """
        samples, judged, magnet, before = rows
        base, *others = policies
        both = [(self.decoder, each) for each in (base | weights, *others)]
        chunk = self._chunk(samples.tokens.shape)
        found = scoring.visit(both, samples[:2], _of_distributions, chunk=chunk)
        log_probs, spread, *divergences = (jnp.where(samples.response, each, 0) for each in found)
        before = jnp.where(before == UNKNOWN, jax.lax.stop_gradient(log_probs), before)
        to_policy = divergences.pop() if self.objective.proximal else None
        to_magnet = divergences.pop() if self.objective.magnet == "whole" else None
        known = (samples.response, samples.share, log_probs, before, magnet)
        seen = Seen(*known, spread, to_magnet, to_policy, sampled)
        return self.objective(seen, judged, numbers), seen._replace(sampled=None)

    def _once(self, weights: Weights, samples: Samples, judged: Judged, others: Any) -> tuple[Any, Any, Array | None]:
        """What is computed once a round: rows and policies of `loss`, and what estimates the divergence from the start.

        That is of the round's first policy, token by token, as the divergence from the magnet is estimated.
        """
        base, magnet, initial = others
        whole = self.objective.magnet == "whole"

        def seen(of_chunk: Callable[..., Array], *policies: Weights) -> Float[Array, "B T"]:
            decoded, chunk = [(self.decoder, base | each) for each in policies], self._chunk(samples.tokens.shape)
            return jnp.where(samples.response, scoring.visit(decoded, samples[:2], of_chunk, chunk=chunk), 0)

        def log_ratio(logs: tuple[Array, Array], targets: Array) -> Array:
            return scoring.at(logs[0], targets) - scoring.at(logs[1], targets)

        divergence = (lambda logs, _: scoring.kl_divergence(*logs)) if whole else log_ratio
        to_initial = seen(divergence, weights, initial) if initial else None
        by_magnet = self.objective.magnet == "sampled" and magnet
        magnet_log_probs = seen(lambda logs, targets: scoring.at(logs[0], targets), magnet) if by_magnet else None
        visited = [*([base | magnet] if whole else []), *([base | weights] if self.objective.proximal else [])]
        n, g = judged.payoff.shape
        share = jnp.full((n, g), 1 / g, jnp.float32) if samples.share is None else samples.share
        rows = (samples._replace(share=share / n), judged, magnet_log_probs)
        return rows, (base, *visited), to_initial

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
        n_rows = -(-shape[0] // sharding.n_row_shares(self.decoder.mesh))
        return scoring.chunk_length(n_rows, shape[1], self.decoder.architecture.vocabulary)


def _of_distributions(logs: tuple[Float[Array, "B t V"], ...], targets: Array) -> tuple[Float[Array, "B t"], ...]:
    """Log-probability of the target, entropy, and the divergence from each further policy."""
    ours, *others = logs
    return scoring.at(ours, targets), scoring.entropy(ours), *(scoring.kl_divergence(ours, each) for each in others)


def _by_parts(loss_and_gradient: Callable[..., Any], n_parts: int) -> Callable[..., Any]:
    """The same of all prompts, computed for one part of them after another: sums, and all that was seen."""
    if n_parts == 1:
        return loss_and_gradient

    def of_all(weights: Weights, rows: Any) -> Any:
        split = jax.tree.map(lambda a: a.reshape(n_parts, a.shape[0] // n_parts, *a.shape[1:]), rows)

        def add(total: tuple[Array, Weights], part: Any) -> tuple[tuple[Array, Weights], Seen]:
            (loss, seen), gradient = loss_and_gradient(weights, part)
            return (total[0] + loss, jax.tree.map(jnp.add, total[1], gradient)), seen

        nothing = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, weights))
        (loss, gradient), seen = jax.lax.scan(add, nothing, split)
        return (loss, jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), seen)), gradient

    return of_all


def _metrics(seen: Seen, log_probs: Float[Array, "B T"], to_initial: Float[Array, "B T"] | None) -> dict[str, Array]:
    """Before a step; `log_probs` are the sampler's."""

    def mean(values: Float[Array, "B T"]) -> Array:
        return jnp.sum(seen.weight * seen.by_response(values))

    ratio = seen.before - seen.log_probs
    apart = jnp.where(seen.response, jnp.abs(seen.log_probs - log_probs), 0)
    found = {
        "entropy": mean(seen.entropy) / mean(jnp.ones_like(seen.entropy)),
        "kl/step": mean(jnp.exp(ratio) - 1 - ratio),  # k3 of Schulman 2020
        "sampling/sampling_logp_difference/max": jnp.max(apart),
    }
    if seen.to_magnet is not None:
        found["kl/magnet"] = mean(seen.to_magnet)
    elif seen.magnet is not None:
        found["kl/magnet"] = mean(seen.log_probs - seen.magnet)
    if to_initial is not None:
        found["kl/initial"] = mean(to_initial)
    return found

"""The inside of a round: E optimizer steps on its rows, compiled as one function.

Gradients may be accumulated over parts of the prompts; a part holds whole groups, because some objectives compare the
responses of a group. A step whose loss, gradient or learning rate is not finite does not happen, is counted, and leaves
every weight and moment as it was, bit for bit. Adam's direction is bounded, so these three decide it before anything
new is made.

What is trained and the optimizer's state are donated: their buffers become those of the result.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from llm_bridge import scoring, sharding
from llm_bridge.arena import Samples
from llm_bridge.decoder import Decoder, Weights
from llm_bridge.objective import Judged, Numbers, Objective, Part, Seen
from llm_bridge.train_state import Counters


class Plan(NamedTuple):
    """What a compiled function is made for.

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


class Trained(NamedTuple):
    """What changes; see `TrainState`."""

    weights: Weights
    optimizer: Any
    counters: Counters


class Given(NamedTuple):
    """What does not change during a round.

    Attributes:
        samples: the rows.
        judged: what the judge says of them.
        numbers: eta and alpha.
        learning_rate: of this round.
        base, magnet, initial: as in `TrainState`.
    """

    samples: Samples
    judged: Judged
    numbers: Numbers
    learning_rate: Float[Array, ""]
    base: Weights
    magnet: Weights
    initial: Weights


class Fixed(NamedTuple):
    """What is computed once a round; None where it is not needed.

    Attributes:
        others: further policies whose whole distributions are visited at each step.
        by_magnet: log-probabilities of the tokens.
        to_initial: what estimates the divergence of the round's first policy from the start, token by token, as the
            divergence from the magnet is estimated.
    """

    others: tuple[Weights, ...]
    by_magnet: Float[Array, "B T"] | None
    to_initial: Float[Array, "B T"] | None


class Carry(NamedTuple):
    """What goes from one step to the next; `before` as in `Part`."""

    trained: Trained
    before: Float[Array, "B T"]


@cache
def adam(
    b1: float, b2: float, eps: float, max_grad_norm: float | None, first_moment: str = "float32"
) -> optax.GradientTransformation:
    """Adam's direction (Kingma and Ba 2015); the same object for the same numbers, so programs are compiled once."""
    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    dtype = None if first_moment == "float32" else first_moment  # None for the weights' own
    return optax.chain(clip, optax.scale_by_adam(b1=b1, b2=b2, eps=eps, mu_dtype=dtype))


def learn(plan: Plan, trained: Trained, given: Given) -> tuple[Trained, dict[str, Array]]:
    """E steps, compiled; what is trained is used up.

    Returns:
        What is trained, and metrics: of the first step, where the policy is the one that has sampled; `kl/step` of the
        last. Divergences are means over responses of sums over tokens, nats; entropy is a mean over tokens. `kl/magnet`
        and `kl/initial` have one estimator, so they agree where magnet and start do: the exact divergence at each
        sampled prefix where the objective visits the magnet's whole distributions, otherwise the log-ratio of the
        sampled tokens, which may be negative.
    """
    return sharding.in_place(_steps, plan, trained, given)


def _steps(plan: Plan, trained: Trained, given: Given) -> tuple[Trained, dict[str, Array]]:
    fixed = _fixed(plan, trained.weights, given)

    def step(carry: Carry, number: Int[Array, ""]) -> tuple[Carry, dict[str, Array]]:
        return _step(plan, carry, given, fixed, number == 0)

    carry = Carry(trained, jnp.zeros(given.samples.tokens.shape, jnp.float32))
    carry, found = jax.lax.scan(step, carry, jnp.arange(plan.epochs, dtype=jnp.int32))
    metrics = {name: values[0] for name, values in found.items()}
    metrics["kl/step"] = found["kl/step"][-1]
    before, counters = carry.trained.counters, trained.counters
    metrics["skipped"] = (before.skipped - counters.skipped).astype(jnp.float32)
    first = jnp.where(jnp.isnan(counters.first_entropy), metrics["entropy"], counters.first_entropy)
    return carry.trained._replace(counters=before._replace(first_entropy=first)), metrics


def _fixed(plan: Plan, weights: Weights, given: Given) -> Fixed:
    def seen(of_chunk: Callable[..., Array], *policies: Weights) -> Float[Array, "B T"]:
        decoded, batch = [(plan.decoder, given.base | each) for each in policies], given.samples[:2]
        return scoring.visit(decoded, batch, of_chunk, chunk=_chunk(plan, given.samples.tokens.shape))

    def log_ratio(logs: tuple[Array, Array], targets: Array) -> Array:
        return scoring.at(logs[0], targets) - scoring.at(logs[1], targets)

    whole = plan.objective.magnet == "whole"
    divergence = (lambda logs, _: scoring.kl_divergence(*logs)) if whole else log_ratio
    by_magnet = plan.objective.magnet == "sampled" and given.magnet
    return Fixed(
        (*([given.base | given.magnet] if whole else []), *([given.base | weights] if plan.objective.proximal else [])),
        seen(lambda logs, targets: scoring.at(logs[0], targets), given.magnet) if by_magnet else None,
        seen(divergence, weights, given.initial) if given.initial else None,
    )


def _step(plan: Plan, carry: Carry, given: Given, fixed: Fixed, first: Array) -> tuple[Carry, dict[str, Array]]:
    """One optimizer step, and metrics before it."""
    trained = carry.trained
    part = _whole(given, fixed, carry.before, first)
    loss, gradient, seen = _gradient(plan, trained.weights, given.base, fixed.others, (part, given.numbers))
    norm = _norm(gradient)
    good = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(given.learning_rate)
    with jax.numpy_dtype_promotion("standard"):  # optax raises decays to integer powers
        direction, optimizer = plan.optimizer.update(gradient, trained.optimizer, trained.weights)
    weights = jax.tree.map(lambda w, d: w - given.learning_rate * d, trained.weights, direction)
    weights, optimizer = jax.tree.map(
        lambda new, old: jnp.where(good, new, old), (weights, optimizer), (trained.weights, trained.optimizer)
    )
    bad = (~good).astype(jnp.int32)
    counters = trained.counters._replace(
        skipped=trained.counters.skipped + bad, skipped_in_a_row=(trained.counters.skipped_in_a_row + bad) * bad
    )
    metrics = {"loss": loss, "grad_norm": norm} | _metrics(part, seen, given.samples, fixed)
    before = part.known(seen.log_probs, carry.before)
    return Carry(Trained(weights, optimizer, counters), before), metrics


def _whole(given: Given, fixed: Fixed, before: Array, first: Array) -> Part:
    """All rows of the round."""
    samples, payoff = given.samples, given.judged.payoff
    share = jnp.full(payoff.shape, 1 / payoff.shape[1], jnp.float32) if samples.share is None else samples.share
    return Part(
        samples.tokens,
        samples.mask,
        samples.response,
        share / payoff.shape[0],
        samples.share is None,
        given.judged,
        before,
        first,
        fixed.by_magnet,
    )


def _gradient(
    plan: Plan, weights: Weights, base: Weights, others: tuple[Weights, ...], round: tuple[Part, Numbers]
) -> tuple[Array, Weights, Seen]:
    """Loss, gradient and what was seen, of all rows at once or of one part of the prompts after another."""
    part, numbers = round

    def loss_of(weights: Weights, part: Part) -> tuple[Array, Seen]:
        policies = [(plan.decoder, each) for each in (base | weights, *others)]
        chunk = _chunk(plan, part.tokens.shape)
        visit = partial(scoring.visit, policies, (part.tokens, part.mask), chunk=chunk)
        return plan.objective(visit, part, numbers)

    found = jax.value_and_grad(loss_of, has_aux=True)
    n_prompts = part.weight.shape[0]
    n_parts = n_prompts // (plan.prompts_at_a_time or n_prompts)
    if n_parts == 1:
        (loss, seen), gradient = found(weights, part)
        return loss, gradient, seen
    arrays = part._replace(sampled=None, first=None)
    split = jax.tree.map(lambda a: a.reshape(n_parts, a.shape[0] // n_parts, *a.shape[1:]), arrays)

    def add(total: tuple[Array, Weights], arrays: Part) -> tuple[tuple[Array, Weights], Seen]:
        (loss, seen), gradient = found(weights, arrays._replace(sampled=part.sampled, first=part.first))
        return (total[0] + loss, jax.tree.map(jnp.add, total[1], gradient)), seen

    nothing = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, weights))
    (loss, gradient), seen = jax.lax.scan(add, nothing, split)
    return loss, gradient, jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), seen)


def _metrics(part: Part, seen: Seen, samples: Samples, fixed: Fixed) -> dict[str, Array]:
    def mean(values: Float[Array, "B T"]) -> Array:
        return jnp.sum(part.weight * part.by_response(values))

    before = part.known(seen.log_probs, part.before)
    ratio = before - seen.log_probs
    found = {
        "entropy": mean(seen.entropy) / mean(jnp.ones_like(seen.entropy)),
        "kl/step": mean(jnp.exp(ratio) - 1 - ratio),  # k3 of Schulman 2020
        "sampling/sampling_logp_difference/max": jnp.max(
            jnp.where(samples.response, jnp.abs(seen.log_probs - samples.log_probs), 0)
        ),
    }
    if seen.divergence is not None:
        found["kl/magnet"] = mean(seen.divergence)
    elif fixed.by_magnet is not None:
        found["kl/magnet"] = mean(seen.log_probs - fixed.by_magnet)
    if fixed.to_initial is not None:
        found["kl/initial"] = mean(fixed.to_initial)
    return found


def _norm(tree: Weights) -> Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def _chunk(plan: Plan, shape: tuple[int, ...]) -> int:
    n_rows = -(-shape[0] // sharding.n_row_shares(plan.decoder.mesh))
    return scoring.chunk_length(n_rows, shape[1], plan.decoder.architecture.vocabulary)

"""What is minimised: the magnetic objective of a language model, in the forms in which samples give it.

A response y is one action of the preference game, and a path in the tree of tokens. With the payoff q(y) = P(y > pi_k)
- 1/2, the policy pi_k that sampled the round and the magnet mu, training takes gradient steps on

    -E_{y ~ pi} q(y)  +  alpha KL(pi, mu)  +  KL(pi, pi_k) / eta          (`mmd.update.magnetic_objective`, negated)

whose minimiser is `mmd.update.magnetic_step`. By the chain rule the divergence of responses is the sum of the
divergences of tokens along the way, so the same function stands for a prompt with all its responses as actions
(`Enumerated`), and for a prefix with the vocabulary as actions (`PolicyGradient`). `Regression` goes to the minimiser
itself.

Sums are over tokens, means over responses and prompts. Nothing is divided by a response's length or by a group's
standard deviation: either would change the scale to which eta and alpha refer.

Letters: as in `llm_bridge.arena`; V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.scoring import at, chosen, entropy, kl_divergence
from mmd.update import magnetic_objective, magnetic_step

Visit = Callable[..., Any]


class Numbers(NamedTuple):
    """Eta and alpha of a round."""

    eta: Float[Array, ""]
    alpha: Float[Array, ""]


class Judged(NamedTuple):
    """What the judge's answers say.

    Attributes:
        payoff: q, each response's win rate minus 1/2.
        preference: P(our response is preferred to theirs); NaN where there is no answer.
    """

    payoff: Float[Array, "N G"]
    preference: Float[Array, "N G H"]


class Part(NamedTuple):
    """Rows of whole groups, all of a round's or some of it.

    Attributes:
        tokens, mask, response: as in `Samples`.
        weight: of each row in the round's mean; all of a round's sum to 1.
        sampled: whether responses are draws, not an enumeration.
        judged: see there.
        before: log-probabilities of the tokens by pi_k, the policy before the round's first step.
        first: whether this is that step, and `before` is not known yet: then it is what the forward pass gives.
        magnet: the same by the magnet, where the objective asks for it once a round.
    """

    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]
    response: Bool[Array, "B T"]
    weight: Float[Array, "N G"]
    sampled: bool
    judged: Judged
    before: Float[Array, "B T"]
    first: Bool[Array, ""]
    magnet: Float[Array, "B T"] | None

    def known(self, log_probs: Float[Array, "B t"], before: Float[Array, "B t"]) -> Float[Array, "B t"]:
        """Log-probabilities by pi_k, of some tokens."""
        return jnp.where(self.first, jax.lax.stop_gradient(log_probs), before)

    def by_token(self, values: Float[Array, "N G"]) -> Float[Array, "B T"]:
        """A value of each row, at each of its tokens."""
        return jnp.broadcast_to(values.reshape(-1, 1), self.tokens.shape)

    def by_response(self, values: Float[Array, "B T"]) -> Float[Array, "N G"]:
        """Sums over the tokens of each response."""
        return jnp.sum(jnp.where(self.response, values, 0), axis=1).reshape(self.weight.shape)


class Seen(NamedTuple):
    """What a forward pass shows of the policy, token by token; 0 beside the responses.

    Attributes:
        log_probs: of the tokens.
        entropy: of the distribution that predicts each.
        divergence: KL(policy || magnet) of it; None where the objective has no magnet at hand.
    """

    log_probs: Float[Array, "B T"]
    entropy: Float[Array, "B T"]
    divergence: Float[Array, "B T"] | None


class Objective:
    """A loss; frozen dataclasses derive from it.

    Attributes:
        magnet: how the magnet enters: its whole distributions at each step ("whole"), the log-probabilities of the
            sampled tokens once a round ("sampled"), or not at all (None).
        proximal: whether the whole distributions of pi_k are needed, which takes a third copy of what is trained.
    """

    magnet: ClassVar[str | None] = None
    proximal: bool = False

    def __call__(self, visit: Visit, part: Part, numbers: Numbers) -> tuple[Float[Array, ""], Seen]:
        """The loss of some rows, to be added to those of the others, and what was seen.

        Args:
            visit: `visit(of_chunk, *arrays)` calls `of_chunk(logs, targets, *arrays)` for some tokens at a time; `logs`
                are the distributions [B, t, V] of the policy, the magnet ("whole") and pi_k (`proximal`).
            part: the rows.
            numbers: eta and alpha.
        """
        raise NotImplementedError


@partial(jax.jit, static_argnames="own")
def payoffs(
    preference: Float[Array, "N G H"], share: Float[Array, "N H"] | None = None, *, own: bool = True
) -> Float[Array, "N G"]:
    """Win rate minus 1/2 of each response.

    Among a group's own draws it is the leave-one-out mean: a response does not meet itself. Pairs without an answer
    count for neither side, so payoffs of a group sum to 0, with or without them, and need no baseline. A response is
    divided by how many answers there are to a response on average.

    Args:
        preference: within groups, or between two; NaN where there is no answer.
        share: probability of each opponent where all responses are enumerated; None for draws.
        own: whether opponents are the same draws.
    """
    margins = preference - 0.5
    if share is not None:
        return jnp.sum(margins * share[:, None, :], axis=-1)
    answered = ~jnp.isnan(margins)
    if own:
        answered = answered & ~jnp.eye(preference.shape[-1], dtype=bool)[None]
    count = jnp.sum(answered, axis=(-2, -1)) / preference.shape[-2]
    total = jnp.sum(jnp.where(answered, margins, 0), axis=-1)
    return total / jnp.maximum(count, 1e-9).astype(total.dtype)[:, None]


@dataclass(frozen=True)
class PolicyGradient(Objective):
    """Each prefix's magnetic objective, with the payoffs that one sampled token gives an estimate of.

    At a prefix, q_v = A / pi_k(v) for the sampled token v and 0 for the others is an unbiased estimate of its payoffs;
    <pi, q> is then the importance ratio times A.

    The divergence of a visited prefix has a gradient in that prefix alone, while a token also decides which prefixes
    come next. With `credit` the divergence to come is part of its payoff, and at pi = pi_k the gradient is that of the
    divergence of whole responses; without, it lacks a part that vanishes where pi = mu = pi_k. So a fixed magnet wants
    credit; a moving one ends where nothing is missing.

    Attributes:
        credit: see above.
        proximal: whether KL(pi, pi_k) is the exact sum over the vocabulary, which needs a third copy of what is
            trained, or (log pi - log pi_k)^2 / 2 on the sampled token (k2 of Schulman 2020, "Approximating KL
            divergence"), whose gradient has the right mean at pi_k.
    """

    credit: bool = False
    proximal: bool = False
    magnet: ClassVar[str | None] = "whole"

    def __call__(self, visit: Visit, part: Part, numbers: Numbers) -> tuple[Float[Array, ""], Seen]:
        """See `Objective`."""
        seen = visit(self._of_chunk(part, numbers), part.by_token(part.judged.payoff), part.before)
        value = part.by_response(seen["value"])
        if self.credit:
            spent = jnp.where(part.response, numbers.alpha * seen["to_magnet"] + seen["to_policy"] / numbers.eta, 0)
            to_come = jnp.cumsum(spent[:, ::-1], axis=1)[:, ::-1] - spent
            value = value - part.by_response(seen["ratio"] * jax.lax.stop_gradient(to_come))
        return -jnp.sum(part.weight * value), Seen(seen["log_probs"], seen["entropy"], seen["to_magnet"])

    def _of_chunk(self, part: Part, numbers: Numbers) -> Callable[..., dict[str, Array]]:
        def of_chunk(logs: tuple[Array, ...], targets: Array, payoff: Array, before: Array) -> dict[str, Array]:
            log_policy, log_magnet = logs[:2]
            taken = at(log_policy, targets)
            before = part.known(taken, before)
            estimate = jnp.where(chosen(log_policy, targets), (payoff * jnp.exp(-before))[:, :, None], 0)
            log_before = logs[2] if self.proximal else log_policy  # then its divergence is 0, and k2 takes its place
            value = magnetic_objective(log_policy, log_before, log_magnet, estimate, numbers.eta, numbers.alpha)
            to_policy = kl_divergence(log_policy, log_before) if self.proximal else (taken - before) ** 2 / 2
            return {
                "value": value if self.proximal else value - to_policy / numbers.eta,
                "log_probs": taken,
                "ratio": jnp.exp(taken - before),
                "entropy": entropy(log_policy),
                "to_magnet": kl_divergence(log_policy, log_magnet),
                "to_policy": to_policy,
            }

        return of_chunk


class Responses(NamedTuple):
    """Log-probabilities of whole responses.

    Attributes:
        policy: pi.
        before: pi_k.
        magnet: mu; pi_k where there is none.
    """

    policy: Float[Array, "N G"]
    before: Float[Array, "N G"]
    magnet: Float[Array, "N G"]


@dataclass(frozen=True)
class OfResponses(Objective):
    """An objective that needs only log-probabilities of whole responses; it states `of_groups`."""

    magnet: ClassVar[str | None] = "sampled"

    def of_groups(self, responses: Responses, part: Part, numbers: Numbers) -> Float[Array, ""]:
        """The loss, to be added to that of other groups."""
        raise NotImplementedError

    def __call__(self, visit: Visit, part: Part, numbers: Numbers) -> tuple[Float[Array, ""], Seen]:
        """See `Objective`."""

        def of_chunk(logs: tuple[Array, ...], targets: Array) -> tuple[Array, Array]:
            return at(logs[0], targets), entropy(logs[0])

        log_probs, spread = visit(of_chunk)
        before = part.by_response(part.known(log_probs, part.before))
        magnet = before if part.magnet is None else part.by_response(part.magnet)
        responses = Responses(part.by_response(log_probs), before, magnet)
        return self.of_groups(responses, part, numbers), Seen(log_probs, spread, None)


def pair_weights(part: Part) -> tuple[Float[Array, "N G G"], Float[Array, "N G G"]]:
    """Weight of each ordered pair of a group in the round's mean, and its preference; no weight without an answer.

    All weights of a group sum to that of its rows, whatever the number of its answers.
    """
    preference = part.judged.preference
    answered = ~jnp.isnan(preference) & ~jnp.eye(preference.shape[-1], dtype=bool)[None]
    weight = jnp.where(answered, part.weight[:, :, None] * part.weight[:, None, :], 0)
    total = jnp.sum(weight, axis=(1, 2), keepdims=True)
    weight = weight * jnp.sum(part.weight, axis=1)[:, None, None] / jnp.where(total > 0, total, 1)
    return weight, jnp.where(answered, preference, 0.5)


@dataclass(frozen=True)
class Regression(OfResponses):
    """Least squares to the minimiser in closed form, over all pairs of a group.

        u_i = log pi(y_i) - log magnetic_step(y_i);    loss = (1 / eta + alpha) / 2 times the variance of u in the group

    The step's log Z is the same for all responses and falls out of the variance, which is the mean over pairs of
    (u_i - u_j)^2 / 2; so the responses at hand can stand for all. At pi = pi_k the gradient is that of the magnetic
    objective. With a fixed magnet this is INPO's loss (Zhang et al. 2024), with a copied one COMAL's (Liu et al. 2024).
    """

    def of_groups(self, responses: Responses, part: Part, numbers: Numbers) -> Float[Array, ""]:
        """See `OfResponses`."""
        target, _ = magnetic_step(responses.before, responses.magnet, part.judged.payoff, numbers.eta, numbers.alpha)
        apart = responses.policy - jax.lax.stop_gradient(target)
        share = part.weight / jnp.sum(part.weight, axis=1, keepdims=True)
        variance = jnp.sum(part.weight * (apart - jnp.sum(share * apart, axis=1, keepdims=True)) ** 2, axis=1)
        if part.sampled:
            variance = variance / (1 - jnp.sum(share**2, axis=1))  # G / (G - 1)
        return (1 / numbers.eta + numbers.alpha) / 2 * jnp.sum(variance)


@dataclass(frozen=True)
class Enumerated(OfResponses):
    """The magnetic objective itself, for prompts all of whose responses are there."""

    def of_groups(self, responses: Responses, part: Part, numbers: Numbers) -> Float[Array, ""]:
        """See `OfResponses`."""
        logs = (responses.policy, responses.before, responses.magnet)
        value = magnetic_objective(*logs, part.judged.payoff, numbers.eta, numbers.alpha)
        return -jnp.sum(jnp.sum(part.weight, axis=1) * value)

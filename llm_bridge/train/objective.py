"""What is minimised: the magnetic objective of a language model, in the forms in which samples give it.

A response y is one action of the preference game, and a path in the tree of tokens. With the payoff q(y) = P(y > pi_k)
- 1/2, the policy pi_k that sampled the round and the magnet mu, training takes gradient steps on

    -E_{y ~ pi} q(y)  +  alpha KL(pi, mu)  +  KL(pi, pi_k) / eta          (`mmd.update.magnetic_objective`, negated)

whose minimiser is `mmd.update.magnetic_step`. By the chain rule the divergence of responses is the sum of the
divergences of tokens along the way, so the same function stands for a prompt with all its responses as actions
(`Enumerated`), and for a prefix with the vocabulary as actions, of which one was sampled (`PolicyGradient`, by
`mmd.update.sampled_objective`). `Regression` goes to the minimiser itself.

Sums are over tokens, means over responses and prompts. Nothing is divided by a response's length or by a group's
standard deviation: either would change the scale to which eta and alpha refer.

Letters: as in `llm_bridge.train.arena`.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmd.update import magnetic_objective, magnetic_step, sampled_objective


class Numbers(NamedTuple):
    """Eta and alpha of a round.

    Attributes:
        eta: step size; 1 / eta is the pull to the policy of the round's beginning, in win rate per nat.
        alpha: regularization towards the magnet, in win rate per nat.
    """

    eta: Float[Array, ""]
    alpha: Float[Array, ""]


class Judged(NamedTuple):
    """What the judge's answers say of a round's responses.

    Attributes:
        payoff: q, each response's win rate minus 1/2.
        preference: P(our response is preferred to theirs); NaN where there is no answer.
    """

    payoff: Float[Array, "N G"]
    preference: Float[Array, "N G H"]


class Seen(NamedTuple):
    """What a forward pass shows of some prompts' responses, token by token; 0 beside the responses. Nats.

    The last R tokens of the rows are there, among which the responses are.

    Attributes:
        response: which tokens are the responses'.
        weight: of each response in the round's mean; all of a round's sum to 1.
        log_probs: of the tokens, by the policy pi.
        before: the same by pi_k, the policy before the round's first step; a constant.
        magnet: the same by the magnet, where the objective asks for it once a round; a constant.
        entropy: of the distribution that predicts each token.
        to_magnet: KL(pi, mu) of these distributions, where the objective asks for the magnet's whole ones.
        to_policy: KL(pi, pi_k) of them, where it is `proximal`.
        sampled: True where the responses are draws, False where they are all there are; None outside of a call of an
            objective, because it is no array.
    """

    response: Bool[Array, "B R"]
    weight: Float[Array, "N G"]
    log_probs: Float[Array, "B R"]
    before: Float[Array, "B R"]
    magnet: Float[Array, "B R"] | None
    entropy: Float[Array, "B R"]
    to_magnet: Float[Array, "B R"] | None
    to_policy: Float[Array, "B R"] | None
    sampled: bool | None

    def by_token(self, values: Float[Array, "N G"]) -> Float[Array, "B R"]:
        """A value of each response, at each of its tokens."""
        return jnp.where(self.response, values.reshape(-1, 1), 0)

    def by_response(self, values: Float[Array, "B R"]) -> Float[Array, "N G"]:
        """Sums over the tokens of each response."""
        return jnp.sum(jnp.where(self.response, values, 0), axis=1).reshape(self.weight.shape)

    def responses(self) -> tuple[Float[Array, "N G"], Float[Array, "N G"], Float[Array, "N G"]]:
        """Log-probabilities of whole responses by pi, pi_k and mu; by pi_k again where there is no magnet."""
        before = self.by_response(self.before)
        return (
            self.by_response(self.log_probs),
            before,
            before if self.magnet is None else self.by_response(self.magnet),
        )


class Objective:
    """Base of the losses, which are frozen dataclasses: an instance is called with what is seen and judged.

    Attributes:
        magnet: how the magnet enters: by its whole distributions at each step ("whole"), by the log-probabilities of
            sampled tokens once a round ("sampled"), or not (None).
        proximal: whether the whole distributions of pi_k are needed, which takes a third copy of what is trained.
        by_row: whether the loss is a sum over responses, weight times a function of that response and its payoff
            alone. Then the responses of a group need not be seen together (`llm_bridge.train.packing`).
    """

    magnet: ClassVar[str | None] = None
    by_row: ClassVar[bool] = False
    proximal: bool = False

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """The loss of some prompts' responses, to be added to that of the others.

        Args:
            seen: what a forward pass shows of them; the gradient goes through its `log_probs`, `entropy`, `to_magnet`
                and `to_policy`.
            judged: what the judge says of them.
            numbers: eta and alpha.
        """
        raise NotImplementedError


@partial(jax.jit, static_argnames="own")
def payoffs(
    preference: Float[Array, "N G H"], share: Float[Array, "N H"] | None = None, *, own: bool = True
) -> Float[Array, "N G"]:
    """Win rate minus 1/2 of each response, in [-1/2, 1/2] where every pair has an answer.

    Within a group it is the leave-one-out mean: a response does not meet itself. Pairs without an answer count for
    neither response, so the payoffs of a group always sum to 0 and need no baseline. The sum of a response's answers is
    divided by the mean number of answers that the responses of its group have, not by its own number.

    Args:
        preference: within each group, or between two groups (H opponents); NaN where there is no answer.
        share: probability of each opponent where all responses are enumerated; None for draws.
        own: whether the opponents are the group itself, so that H = G and the diagonal is left out.
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
    """The magnetic objective of each prefix, as its sampled token shows it.

    The loss of a token is minus `ratio * A - alpha KL(pi, mu) - KL(pi, pi_k) / eta`. There `ratio` is pi / pi_k of the
    token, A the response's payoff, and both divergences are those of the distributions over the vocabulary.

    The divergence at a prefix depends on the token drawn there, and also on the earlier tokens, which decide that this
    prefix is reached. The loss above has the gradient of the first dependence only. With `credit` the divergences still
    to come in the response are subtracted from A, which adds the gradient of the second. At pi = pi_k the whole is then
    the gradient of the divergence of whole responses. The missing part is 0 where pi = mu = pi_k. A moving magnet ends
    there and needs no `credit`. Training towards a fixed magnet ends at another policy than the magnet, so set
    `credit=True` with `mmd.Fixed`.

    Attributes:
        credit: whether the divergences still to come are subtracted from a token's payoff.
        proximal: whether KL(pi, pi_k) is the exact sum over the vocabulary, which needs a third copy of what is
            trained. Else it is (log pi - log pi_k)^2 / 2 on the sampled token, k2 of Schulman 2020 ("Approximating KL
            divergence"). Its gradient has the right mean at pi_k.
    """

    credit: bool = False
    proximal: bool = False  # pyrefly: ignore[bad-override] - read only, as the class is frozen
    magnet: ClassVar[str | None] = "whole"
    by_row: ClassVar[bool] = True

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """Minus the mean over responses of the sum over tokens of `mmd.update.sampled_objective`.

        In win rates, as the payoff; divergences of the whole vocabulary are in nats. The gradient goes through
        `log_probs`, `to_magnet` and, with `proximal`, `to_policy`.
        """
        to_policy = seen.to_policy if self.proximal else (seen.log_probs - seen.before) ** 2 / 2
        to_magnet = jnp.zeros_like(seen.log_probs) if self.magnet is None else seen.to_magnet
        assert to_magnet is not None  # `magnet` asks for it
        assert to_policy is not None  # `proximal` does
        ratio, advantage = jnp.exp(seen.log_probs - seen.before), seen.by_token(judged.payoff)
        if self.credit:
            spent = numbers.alpha * to_magnet + to_policy / numbers.eta
            to_come = jnp.cumsum(spent[:, ::-1], axis=1)[:, ::-1] - spent
            advantage = advantage - jnp.where(seen.response, jax.lax.stop_gradient(to_come), 0)
        value = sampled_objective(ratio, advantage, to_magnet, to_policy, numbers.eta, numbers.alpha)
        return -jnp.sum(seen.weight * seen.by_response(value))


def pair_weights(seen: Seen, judged: Judged) -> tuple[Float[Array, "N G G"], Float[Array, "N G G"]]:
    """Weight of each ordered pair of a group in the round's mean, and its preference; no weight without an answer.

    All weights of a group sum to that of its rows, whatever the number of its answers.
    """
    answered = ~jnp.isnan(judged.preference) & ~jnp.eye(judged.preference.shape[-1], dtype=bool)[None]
    weight = jnp.where(answered, seen.weight[:, :, None] * seen.weight[:, None, :], 0)
    total = jnp.sum(weight, axis=(1, 2), keepdims=True)
    weight = weight * jnp.sum(seen.weight, axis=1)[:, None, None] / jnp.where(total > 0, total, 1)
    return weight, jnp.where(answered, judged.preference, 0.5)


@dataclass(frozen=True)
class Regression(Objective):
    """Least squares to the minimiser in closed form, over all pairs of a group.

        u_i = log pi(y_i) - log magnetic_step(y_i);    loss = (1 / eta + alpha) / 2 times the variance of u in the group

    The step's log Z is the same for all responses and falls out of the variance. The variance is the mean over pairs of
    (u_i - u_j)^2 / 2, so the responses at hand can stand for all. At pi = pi_k the gradient is that of the magnetic
    objective. With a fixed magnet this is INPO's loss (Zhang et al. 2024), with a copied one COMAL's (Liu et al. 2024).
    """

    magnet: ClassVar[str | None] = "sampled"

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """The weighted variance of u within each group, times (1 / eta + alpha) / 2; summed over groups.

        For draws the variance is the unbiased one, with the factor G / (G - 1) at equal weights.
        """
        policy, before, magnet = seen.responses()
        target, _ = magnetic_step(before, magnet, judged.payoff, numbers.eta, numbers.alpha)
        apart = policy - jax.lax.stop_gradient(target)
        share = seen.weight / jnp.sum(seen.weight, axis=1, keepdims=True)
        variance = jnp.sum(seen.weight * (apart - jnp.sum(share * apart, axis=1, keepdims=True)) ** 2, axis=1)
        if seen.sampled:
            variance = variance / (1 - jnp.sum(share**2, axis=1))  # G / (G - 1)
        return (1 / numbers.eta + numbers.alpha) / 2 * jnp.sum(variance)


@dataclass(frozen=True)
class Enumerated(Objective):
    """The magnetic objective itself, for prompts all of whose responses are there."""

    magnet: ClassVar[str | None] = "sampled"

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """Minus the mean over prompts of `mmd.update.magnetic_objective`, exact over all G responses."""
        value = magnetic_objective(*seen.responses(), judged.payoff, numbers.eta, numbers.alpha)
        return -jnp.sum(jnp.sum(seen.weight, axis=1) * value)

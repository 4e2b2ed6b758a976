"""The magnetic mirror descent update: this file is the only place where it is written.

At one information set, with current policy pi, magnet mu, payoff vector q, step size eta and regularization alpha,

    pi+  =  argmax_p  <p, q> - alpha KL(p, mu) - KL(p, pi) / eta
    log pi+  =  ( log pi + eta alpha log mu + eta q ) / (1 + eta alpha) - log Z

Source: Sokota et al., "A Unified Approach to Reinforcement Learning, Quantal Response Equilibria, and Two-Player
Zero-Sum Games" (ICLR 2023), eq. 12; Prop. D.7 shows it is mirror descent on the regularized loss with step
eta / (1 + eta alpha). alpha = 0 is mirror descent (multiplicative weights).

Matrix games call it once a player; `mmd.game.treeplex` calls it at every information set, with q the payoff gradient
plus the children's values and, for infoset weights w_j, `eta_j = eta / w_j` and `alpha_j = alpha * w_j`; language
models maximise `sampled_objective`, which is `magnetic_objective` on average, by gradient steps on their tokens.

Letters: A actions; `...` any batch shape.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmd.simplex import kl_divergence


def magnetic_step(
    log_policy: Float[Array, "... A"],
    log_magnet: Float[Array, "... A"],
    payoff: Float[Array, "... A"],
    eta: Float[Array, "..."] | float,
    alpha: Float[Array, "..."] | float,
    *,
    legal: Bool[Array, "... A"] | None = None,
) -> tuple[Float[Array, "... A"], Float[Array, "..."]]:
    """The maximiser of `magnetic_objective`, in closed form.

    Args:
        log_policy: normalised log-probabilities of the current policy.
        log_magnet: normalised log-probabilities of the magnet.
        payoff: payoff of each action, to be maximised.
        eta: step size (> 0), one per batch entry or one for all; in 1 / payoff units.
        alpha: regularization towards the magnet (>= 0), in payoff units.
        legal: actions that exist; the others get log-probability -inf. All exist if None.

    Returns:
        The new log-probabilities and the value of `magnetic_objective` there, which is what an information set is worth
        to the sequence above it (MMD paper, App. C.3).
    """
    if payoff.shape[-1] == 1:
        return jnp.zeros_like(payoff), payoff[..., 0]  # nothing to choose: no exponential, no logarithm
    eta, alpha = _per_action(eta), _per_action(alpha)
    denominator = 1.0 + eta * alpha
    logits = (log_policy + eta * alpha * log_magnet + eta * payoff) / denominator
    if legal is not None:
        logits = jnp.where(legal, logits, -jnp.inf)
    top = jnp.max(logits, axis=-1, keepdims=True)
    log_normalizer = top + jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True))
    return logits - log_normalizer, (log_normalizer * denominator / eta)[..., 0]


def _per_action(coefficient: Float[Array, "..."] | float) -> Array:
    coefficient = jnp.asarray(coefficient)
    return coefficient[..., None] if coefficient.ndim else coefficient


def magnetic_objective(
    log_candidate: Float[Array, "... A"],
    log_policy: Float[Array, "... A"],
    log_magnet: Float[Array, "... A"],
    payoff: Float[Array, "... A"],
    eta: Float[Array, "..."] | float,
    alpha: Float[Array, "..."] | float,
) -> Float[Array, "..."]:
    """What `magnetic_step` maximises over the candidate p: `<p, q> - alpha KL(p, mu) - KL(p, pi) / eta`.

    Concave in p = exp(log_candidate) and differentiable in `log_candidate`; arguments as in `magnetic_step`.
    """
    expected_payoff = jnp.sum(jnp.exp(log_candidate) * payoff, axis=-1)
    to_magnet = kl_divergence(log_candidate, log_magnet)
    to_policy = kl_divergence(log_candidate, log_policy)
    return expected_payoff - alpha * to_magnet - to_policy / eta


def sampled_objective(
    ratio: Float[Array, "..."],
    advantage: Float[Array, "..."],
    to_magnet: Float[Array, "..."],
    to_policy: Float[Array, "..."],
    eta: Float[Array, "..."] | float,
    alpha: Float[Array, "..."] | float,
) -> Float[Array, "..."]:
    """`magnetic_objective` as one sampled action shows it: `ratio * A - alpha KL(p, mu) - KL(p, pi) / eta`.

    The mean over actions drawn from pi is `magnetic_objective` of the payoffs q = A, in value and gradient: the
    importance ratio times A is an unbiased estimate of <p, q>.

    Args:
        ratio: p(a) / pi(a), candidate to current policy, of the sampled action a.
        advantage: A, payoff of that action; a number that all actions share may be taken off, it adds no gradient.
        to_magnet: KL(p, mu) at the information set.
        to_policy: KL(p, pi) there.
        eta, alpha: as in `magnetic_step`.

    Source: the gradient estimate of Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
    Reinforcement Learning" (1992), with importance weights; the two divergences are those of Sokota et al.
    """
    return ratio * advantage - alpha * to_magnet - to_policy / eta

"""R-NaD against a walk over all plays of Kuhn poker, published QREs, and what its papers prove of the two loops."""

import itertools

import numpy as np
import pytest

import mmd
from games import kuhn_poker, matrix
from mmd.algorithms.rnad import RegularizedNashDynamics
from mmd.game.policy import Policy, as_log
from tests.claims.reference import PERTURBED_RPS, kl_to
from tests.mmd.algorithms.plays import Play, Policies, by_infoset, conditional_values, last_iterates, reach

NEVER = 10**9
NORMALIZED_RPS = (PERTURBED_RPS + 3) / 6  # payoffs in [0, 1], as in the MMD paper
# Of both players of that game, by alpha: computed by the MMD paper's authors.
QRES = {
    0.2: (0.22364492, 0.47798817, 0.29836691),
    0.1: (0.17347803, 0.48630324, 0.34021873),
    0.05: (0.1517447, 0.46794775, 0.38030755),
}


def transformed(policy: Policies, reference: Policies, alpha: float) -> Policies:
    """Counterfactual values of the transformed rewards: conditional ones times reach."""

    def payoff(play: Play, player: int) -> float:
        total = play.payoffs[player]
        for decision in play.decisions:
            ratio = np.log(policy[decision.label] / reference[decision.label])[decision.action]
            total += -alpha * ratio if decision.player == player else alpha * ratio
        return total

    reached = reach(policy)
    return {label: reached[label] * q for label, q in conditional_values(policy, payoff).items()}


def test_ten_steps_are_those_of_a_walk_over_plays() -> None:
    """With a new reference after steps 4 and 8."""
    game, eta, alpha = kuhn_poker.game(), 1.5, 0.3
    start = as_log(Policy.random(game, seed=1))
    policy = reference = by_infoset(game, start)
    algorithm = RegularizedNashDynamics(eta=eta, alpha=alpha, every=4)
    for t, found in enumerate(last_iterates(game, algorithm, range(1, 11), start), start=1):
        values = transformed(policy, reference, alpha)
        weights = {label: p * np.exp(eta * values[label]) for label, p in policy.items()}
        policy = {label: w / w.sum() for label, w in weights.items()}
        reference = policy if t % 4 == 0 else reference
        for label, probabilities in by_infoset(game, found).items():
            np.testing.assert_allclose(probabilities, policy[label], rtol=0, atol=1e-12, err_msg=f"{label} at {t}")


def test_transformed_rewards_sum_to_zero_and_the_dynamics_comes_to_rest_at_their_equilibrium() -> None:
    """At rest, every action of every infoset is worth the same, alpha log(pi / mu) included: nobody wants to deviate.

    Each player's transformed payoff is concave in its own plan, so this is the equilibrium.
    """
    game, alpha = kuhn_poker.game(), 0.3
    start = as_log(Policy.random(game, seed=2))
    (found,) = last_iterates(game, RegularizedNashDynamics(eta=1.5, alpha=alpha, every=NEVER), (5_000,), start)
    reference, policy = by_infoset(game, start), by_infoset(game, found)
    for label, values in transformed(policy, reference, alpha).items():
        np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-13, err_msg=label)
    assert max(np.abs(policy[label] - reference[label]).max() for label in policy) > 0.3


@pytest.mark.parametrize("alpha", QRES)
def test_on_a_matrix_the_dynamics_leads_to_the_qre(alpha: float) -> None:
    """The transformed game's equilibrium is the softmax of payoffs over alpha, for a uniform reference."""
    game = matrix.game(NORMALIZED_RPS)
    (found,) = last_iterates(game, RegularizedNashDynamics(eta=0.2, alpha=alpha, every=NEVER), (20_000,))
    for log_policy in found:
        np.testing.assert_allclose(np.exp(log_policy[1:]), QRES[alpha], rtol=0, atol=1e-8)


def test_every_reference_is_closer_to_the_equilibrium_than_the_one_before() -> None:
    """KL(z*, mu_k+1) <= KL(z*, mu_k) - KL(mu_k+1, mu_k), where the dynamics was left to settle."""
    game = matrix.game(NORMALIZED_RPS)
    equilibrium = tuple(np.log([1, 1 / 7, 3 / 7, 3 / 7]) for _ in range(2))
    references = last_iterates(game, RegularizedNashDynamics(eta=0.5, alpha=0.2, every=400), range(0, 8_001, 400))
    to_equilibrium = np.array([kl_to(game, equilibrium, mu) for mu in references])
    moved = np.array([kl_to(game, new, old) for old, new in itertools.pairwise(references)])
    assert (np.diff(to_equilibrium) <= -moved + 1e-14).all()
    assert to_equilibrium[-1] < 1e-3 * to_equilibrium[0]


def test_the_last_iterate_reaches_the_equilibrium_of_kuhn_poker_and_a_fixed_reference_does_not() -> None:
    solution = mmd.solve(kuhn_poker.game(), RegularizedNashDynamics(), tolerance=1e-9)
    assert solution.converged
    assert solution.iterate == "last"
    assert solution.gradient_evaluations == 3 * solution.iterations + 1
    assert set(solution.algorithm) == {"name", "keeps_best", "eta", "alpha", "every"}
    np.testing.assert_allclose(solution.value, -1 / 18, rtol=0, atol=2e-9)
    stays = mmd.solve(
        kuhn_poker.game(), RegularizedNashDynamics(every=NEVER), tolerance=1e-9, max_iterations=solution.iterations
    )
    assert stays.exploitability > 1e-2


@pytest.mark.parametrize("name", ["eta", "alpha", "every"])
def test_refusals(name: str) -> None:
    with pytest.raises(mmd.GameError, match=f"expected {name} > 0, got 0"):
        RegularizedNashDynamics(**{name: 0}).resolve(kuhn_poker.game())

"""Tokens or sequences: on a token tree the token-level update is the sequence-level one.

By the chain rule the KL of two distributions over complete sequences is the sum over prefixes of the KL of their next
tokens, weighted with the prefix's probability: the dilated KL with unit weights. So the magnetic step, taken infoset by
infoset with continuation values, maximises the same function as the magnetic step on the simplex of sequences.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import mmd
from games import preference, token_tree
from mmd.update import magnetic_step
from tests.claims.reference import dilated_kl, plan_of, trajectory


def pair(vocabulary: int, length: int) -> tuple[mmd.Game, mmd.Game]:
    """The token tree, and the matrix game of its complete sequences."""
    n = vocabulary**length
    above = np.triu(np.random.default_rng(n).uniform(-0.5, 0.5, (n, n)), 1)
    shares = 0.5 + above - above.T
    return token_tree.from_preference(shares, vocabulary, length), preference.game(shares)


def leaves(game: mmd.Game, log_policy: np.ndarray, n: int) -> np.ndarray:
    """Distribution over complete sequences."""
    return plan_of(game.row, np.asarray(log_policy))[-n:]


def flat(distribution: np.ndarray) -> np.ndarray:
    return np.log(np.concatenate([[1.0], distribution]))


SIZES = [(2, 3), (3, 2), (5, 1)]


@pytest.mark.parametrize(("vocabulary", "length"), SIZES)
def test_the_chain_rule(vocabulary: int, length: int) -> None:
    tree, _ = pair(vocabulary, length)
    p, q = (mmd.Policy.random(tree, seed).probabilities[0] for seed in (1, 2))
    x, y = (leaves(tree, np.log(z), vocabulary**length) for z in (p, q))
    np.testing.assert_allclose(dilated_kl(tree.row, np.log(p), np.log(q)), x @ np.log(x / y), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("vocabulary", "length"), SIZES)
@pytest.mark.parametrize(("eta", "alpha"), [(0.3, 0.5), (5.0, 0.0), (50.0, 0.1)])
def test_a_token_level_step_is_the_sequence_level_step(vocabulary: int, length: int, eta: float, alpha: float) -> None:
    n = vocabulary**length
    tree, _ = pair(vocabulary, length)
    policy, magnet = (np.log(mmd.Policy.random(tree, seed).probabilities[0]) for seed in (3, 4))
    payoff = np.random.default_rng(5).uniform(-1, 1, n)
    gradient = jnp.zeros(tree.row.n_sequences).at[-n:].set(payoff)
    ones = jnp.ones(tree.row.n_infosets)
    by_token = tree.row.magnetic_step(jnp.asarray(policy), jnp.asarray(magnet), gradient, eta, alpha, ones)
    x, mu = (jnp.log(leaves(tree, log, n)) for log in (policy, magnet))
    by_sequence, _ = magnetic_step(x, mu, jnp.asarray(payoff), eta, alpha)
    np.testing.assert_allclose(leaves(tree, by_token, n), np.exp(by_sequence), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("vocabulary", "length"), SIZES[:2])
@pytest.mark.parametrize("magnet", [mmd.Fixed(), mmd.Refresh(every=20)], ids=lambda m: type(m).__name__)
def test_on_the_tree_and_on_its_leaves_the_same_path(vocabulary: int, length: int, magnet: mmd.Fixed) -> None:
    """MMD from a random policy towards a random magnet: all iterates, and with a fixed one the point they end at."""
    n = vocabulary**length
    tree, matrix = pair(vocabulary, length)
    starts = [np.log(mmd.Policy.random(tree, seed).probabilities[0]) for seed in (6, 7)]
    flat_starts = [flat(leaves(tree, log, n)) for log in starts]
    paths = []
    for game, (begin, center) in ((tree, starts), (matrix, flat_starts)):
        towards = replace(magnet, center=(center, center))
        algorithm = mmd.MagneticMirrorDescent(eta=0.5, alpha=0.2, magnet=towards)
        paths.append(trajectory(game, algorithm, 400, start=(begin, begin)))
    for on_tree, on_leaves in zip(*paths, strict=True):
        for p in range(2):
            np.testing.assert_allclose(leaves(tree, on_tree[p], n), np.exp(on_leaves[p][1:]), rtol=0, atol=1e-10)
    ends = [mmd.exploitability(game, path[-1]) for game, path in zip((tree, matrix), paths, strict=True)]
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-12)
    if isinstance(magnet, mmd.Fixed):
        np.testing.assert_allclose(np.exp(paths[0][-1][0]), np.exp(paths[0][-2][0]), rtol=0, atol=1e-12)

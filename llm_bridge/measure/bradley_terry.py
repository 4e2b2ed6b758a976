"""Whether one number for each answer explains verdicts on pairs of answers: Bradley-Terry against free pairs.

Bradley and Terry's (1952) model says P(i is preferred to j) = sigmoid(s_i - s_j) with a score s_i for every answer to a
prompt. The alternative gives every pair a probability of its own. Twice the difference of their greatest
log-likelihoods is the likelihood ratio statistic G2, summed over prompts.

Two things that textbooks take for granted do not hold here. The greatest likelihood of the scores need not exist: where
some answers win against all others, always, their scores run away (Ford 1957, "Solution of a ranking problem from
binary comparisons"). So scores are fitted with a ridge, which bounds them and changes G2 of a ranking of six answers
from 0 to 0.25 at most. And with one or two verdicts on a pair G2 is far from its chi-squared limit; its level comes
from a parametric bootstrap (Efron and Tibshirani 1993, chapter 16), in which verdicts are drawn from scores again and
again.

Which scores? Those of greatest likelihood are too far apart, because they take the luck of few verdicts for strength;
verdicts drawn from them are too consistent, and the test would reject nearly every scalar judge. So scores are drawn
from what the verdicts say of them: a normal prior whose spread is estimated on all prompts together (its marginal
likelihood, by Laplace's approximation), and then, for each replicate, from the posterior of each prompt's scores. What
the level is worth is measured in `benchmarks/real_model/judge_calibration.py`.

A tie is no verdict here: where ties follow Davidson's (1970) model, or come at random, the other verdicts follow
scores. A verdict that is a probability varies less than a coin with the same mean. So the bootstrap draws as many ties
as give its verdicts the same mean square from 1/2.

The model says more than that answers are in order: how often the better one wins has to follow from one number each. A
judge that errs at random, however far apart two answers are, is rejected in the end, although scores put its
preferences in order. So the same replicates say how many triples are cyclic by noise alone, and `cyclic_p_value`
whether the verdicts have more of them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RIDGE = 1e-3  # precision of the prior with which G2 is computed: next to none
SPREADS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0])  # of scores, that are tried
REPLICATES, FIRST, CLEARLY_FINE = 199, 39, 0.25  # after the first ones a large p-value of either needs no more
AT_ONCE = 2_000_000  # numbers in an array
STEPS, LONGEST_STEP, CLOSE = 30, 2.0, 1e-4  # of Newton's method; the longest and the last one, of a score

Wins = Float[np.ndarray, "K n n"]


class ScalarTest(NamedTuple):
    """A test of one score for each answer.

    Attributes:
        statistic: G2.
        degrees: pairs that were compared, less the scores that may be chosen.
        p_value: how often as large a statistic comes of verdicts that do follow scores.
        spread: standard deviation of the scores, as estimated; 1 means that of two answers drawn at random the better
            one wins 73 % of verdicts or so.
        cyclic: share of triples that are cyclic in verdicts that follow scores: by noise alone.
        cyclic_high: its 95 % quantile over the replicates.
        cyclic_p_value: how often it is at least as large as in the verdicts.
    """

    statistic: float
    degrees: int
    p_value: float
    spread: float
    cyclic: float
    cyclic_high: float
    cyclic_p_value: float


def scalar_test(wins: Wins, *, ties: float = 0.0, seed: int = 0, replicates: int = REPLICATES) -> ScalarTest:
    """Test whether scores explain verdicts.

    Args:
        wins: [K, n, n] on K prompts, how many of the verdicts on answers i and j were for i, without ties; nothing on
            the diagonal, and nothing for answers that are not there.
        ties: of verdicts y that are probabilities, 1 - 4 times the mean of (y - 1/2)^2; 0 where all are 0 and 1.
        seed: of the bootstrap.
        replicates: of it, at least one; fewer are drawn where the first 39 say that p is large.
    """
    random, n = np.random.default_rng(seed), wins.shape[1]
    counts = np.rint(wins + wins.swapaxes(1, 2)).astype(np.int64)
    spread, centre, root = _posterior(wins)
    measured = np.array([deviance(wins).sum(), _mean_of_known(_cyclic_share(wins)[None])[0]])
    found, p_values = np.zeros((2, 0)), np.ones(2)
    for size in _parts(replicates, wins.size):
        noise = random.standard_normal((size, *centre.shape))
        scores = (centre + np.einsum("kij,rkj->rki", root, noise)).reshape(-1, n)
        drawn = _drawn(scores, np.tile(counts, (size, 1, 1)), ties, random)
        cyclic = _mean_of_known(_cyclic_share(drawn).reshape(size, -1))
        found = np.append(found, np.stack([deviance(drawn).reshape(size, -1).sum(axis=1), cyclic]), axis=1)
        p_values = (1 + (found >= measured[:, None] * (1 - 1e-9)).sum(axis=1)) / (1 + found.shape[1])
        if p_values.max() > CLEARLY_FINE:
            break
    degrees = int((counts > 0).sum() // 2 - np.maximum((counts.sum(axis=2) > 0).sum(axis=1) - 1, 0).sum())
    noise = float(found[1].mean()), float(np.quantile(found[1], 0.95))
    return ScalarTest(float(measured[0]), degrees, float(p_values[0]), spread, *noise, float(p_values[1]))


def deviance(wins: Wins) -> Float[np.ndarray, " K"]:
    """G2 of each prompt: twice what free pairs gain in log-likelihood over scores."""
    counts = wins + wins.swapaxes(1, 2)
    shares = np.divide(wins, counts, out=np.ones_like(wins), where=wins > 0)
    free = (wins * np.log(shares)).sum(axis=(1, 2))
    return 2 * np.maximum(0.0, free - _log_likelihood(wins, scores_of(wins)))


def scores_of(wins: Wins, precision: float = RIDGE) -> Float[np.ndarray, "K n"]:
    """The scores of greatest likelihood under a normal prior, by Newton's method; they sum to 0.

    Args:
        wins: as in `scalar_test`; shares of a verdict will do.
        precision: of the prior, 1 / variance.
    """
    scores, left, index = np.zeros(wins.shape[:2]), np.arange(len(wins)), np.arange(wins.shape[1])
    for _ in range(STEPS):
        table, found = wins[left], scores[left]
        counts, expected = table + table.swapaxes(1, 2), _preferred(found)
        slope = table.sum(axis=2) - (counts * expected).sum(axis=2) - precision * found
        step = np.linalg.solve(_curvature(counts, expected, index, precision), slope[..., None])[..., 0]
        longest = np.abs(step).max(axis=1, initial=0.0, keepdims=True)
        scores[left] = found + step * LONGEST_STEP / np.maximum(longest, LONGEST_STEP)
        left = left[longest[:, 0] > CLOSE]  # a step of Newton's method squares what is missing
        if not len(left):
            break
    return scores


def cyclic_triples(beats: np.ndarray) -> Float[np.ndarray, " K"]:
    """How many triples of answers to each prompt are cycles, i over j over k over i.

    Args:
        beats: [K, n, n] whether i beats j.
    """
    table = beats.astype(np.float64)
    return np.einsum("kij,kjl,kli->k", table, table, table, optimize=True) / 3


def triples(pairs: np.ndarray) -> Float[np.ndarray, " K"]:
    """How many triples there are, all of whose pairs are.

    Args:
        pairs: [K, n, n] which pairs are there, both entries of each.
    """
    return cyclic_triples(pairs) / 2


def _posterior(wins: Wins) -> tuple[float, np.ndarray, np.ndarray]:
    """Spread of all scores; the mean of each prompt's own, and a root of their covariance."""
    spread = float(SPREADS[np.argmax([_evidence(wins, each) for each in SPREADS])])
    counts, index = wins + wins.swapaxes(1, 2), np.arange(wins.shape[1])
    scores = scores_of(wins, spread**-2)
    curvature = _curvature(counts, _preferred(scores), index, spread**-2)
    return spread, scores, np.linalg.cholesky(np.linalg.inv(curvature))


def _evidence(wins: Wins, spread: float) -> float:
    """Log-likelihood of the spread, scores integrated out, by Laplace's approximation."""
    precision, counts, index = spread**-2, wins + wins.swapaxes(1, 2), np.arange(wins.shape[1])
    scores = scores_of(wins, precision)
    _, volume = np.linalg.slogdet(_curvature(counts, _preferred(scores), index, precision))
    prior = 0.5 * scores.shape[1] * np.log(precision) - 0.5 * precision * (scores**2).sum(axis=1)
    return float((_log_likelihood(wins, scores) + prior - 0.5 * volume).sum())


def _preferred(scores: Float[np.ndarray, "K n"]) -> Wins:
    return 0.5 + 0.5 * np.tanh((scores[:, :, None] - scores[:, None, :]) / 2)


def _curvature(counts: Wins, expected: Wins, index: np.ndarray, precision: float) -> Wins:
    """Minus the second derivative of the log-likelihood with its prior."""
    weight = counts * expected * (1 - expected)
    found = -weight
    found[:, index, index] += weight.sum(axis=2) + precision
    return found


def _log_likelihood(wins: Wins, scores: Float[np.ndarray, "K n"]) -> Float[np.ndarray, " K"]:
    return -(wins * np.logaddexp(0, scores[:, None, :] - scores[:, :, None])).sum(axis=(1, 2))


def _drawn(scores: Float[np.ndarray, "K n"], counts: np.ndarray, ties: float, random: np.random.Generator) -> Wins:
    """Verdicts that follow scores, some of them ties."""
    i, j = np.triu_indices(scores.shape[1], 1)
    preferred, n = _preferred(scores)[:, i, j], counts[:, i, j]
    tied = random.binomial(n, ties) if ties > 0 else np.zeros_like(n)
    decided = np.clip((preferred - ties / 2) / max(1 - ties, 1e-9), 0, 1)
    found, won = np.zeros(counts.shape), random.binomial(n - tied, decided) + tied / 2
    found[:, i, j], found[:, j, i] = won, n - won
    return found


def _cyclic_share(wins: Wins) -> Float[np.ndarray, " K"]:
    """Share of triples that are cyclic; NaN where there are none."""
    there = triples(wins + wins.swapaxes(1, 2) > 0)
    return np.divide(cyclic_triples(wins > wins.swapaxes(1, 2)), there, out=np.full(len(wins), np.nan), where=there > 0)


def _mean_of_known(shares: Float[np.ndarray, "R K"]) -> Float[np.ndarray, " R"]:
    known = ~np.isnan(shares)
    return np.where(known, shares, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def _parts(replicates: int, size: int) -> Iterator[int]:
    """Replicates that are drawn together: at first a few, then as many as fit into memory."""
    most = max(1, AT_ONCE // max(1, size))
    done = min(FIRST, most, replicates)
    yield done
    for begin in range(done, replicates, most):
        yield min(most, replicates - begin)

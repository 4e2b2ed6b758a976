"""95 % intervals of shares, for numbers that stand in reports.

Wilson's (1927) interval: the shares p for which the observed one is within z standard errors of p. It stays inside
[0, 1] and does not shrink to a point at 0 or 1. For means of values in [0, 1], such as preferences or the means of
clusters, p (1 - p) bounds the variance from above, so the interval is at least as wide as it has to be.

Where that is too wide, `redrawn` is an interval for the mean over all prompts of which some were seen. Each replicate
of the experiment gives the prompts random weights (the Bayesian bootstrap, Rubin 1981), and one to a prompt that was
not seen, whose value has Jeffreys' prior Beta(1/2, 1/2): the posterior of a Dirichlet process (Ferguson 1973). The
unseen prompt is what keeps the interval honest where the seen ones show little variance: ten wins of ten do not mean
that every prompt is won, and ten ties do not mean that every prompt is tied. On average it weighs as much as a seen
one, and down to a quarter of that where prompts are more alike than wins and losses could be; the two numbers are
chosen so that the interval holds the exact rate in 93 to 98 % of experiments
(`benchmarks/faults/win_rate_intervals.py`). What a prompt's value is made of does not matter, so answers to one prompt
may depend on each other in any way. Rows that repeat a prompt are one case (`cases_of`, `pooled`): taken for prompts of
their own they would narrow the interval.

`clustered` has the standard error that clusters show.
"""

from collections.abc import Hashable, Sequence
from math import nan, sqrt

import numpy as np
from jaxtyping import Float, Int

Z = 1.959964  # 97.5 % of the standard normal distribution
REPLICATES = 2_000
SEED = 0  # of the replicates: the same numbers have the same interval
LEAST_UNSEEN, SPREAD_OUT = 0.25, 0.3  # weight of the unseen prompt, and variance over p (1 - p) from which it is 1


def cases_of(prompts: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """Which of the distinct prompts each row has, numbered as they come."""
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(prompt, len(number)) for prompt in prompts], np.int64)


def repeats(prompts: Sequence[Hashable]) -> list[str]:
    """A line that says how many rows repeat a prompt, if any does."""
    distinct = len(set(prompts))
    text = f"{len(prompts) - distinct} of {len(prompts)} rows repeat a prompt: intervals have {distinct} cases"
    return [text] if distinct < len(prompts) else []


def pooled(values: Float[np.ndarray, "n p"], case: Int[np.ndarray, " n"]) -> Float[np.ndarray, " C"]:
    """Mean of all values of each case that there are; NaN where there is none.

    Args:
        values: of n rows; NaN where there is none.
        case: of each row, see `cases_of`.
    """
    known = ~np.isnan(values)
    sums, counts = (np.bincount(case, each.sum(axis=1)) for each in (np.where(known, values, 0), known))
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The interval of a share among n independent cases; (nan, nan) where there is none."""
    if n <= 0 or not 0 <= share <= 1:
        return nan, nan
    centre, spread = share + Z * Z / (2 * n), Z * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def clustered(sums: Sequence[float | int], counts: Sequence[float | int]) -> tuple[float, float]:
    """A mean over cases that come in clusters, such as answers to one prompt, and its standard error.

    The mean is a ratio of two sums over clusters; its error is that of the linearised ratio (Cochran 1977, section
    2.11), so cases of a cluster may depend on each other in any way. Times `Z` it is half of a 95 % interval.

    Args:
        sums: of the values of each cluster.
        counts: cases of each cluster; clusters without any count for nothing.

    Returns:
        Mean and standard error; (nan, nan) without cases, an error of nan with a single cluster.
    """
    pairs = [(total, n) for total, n in zip(sums, counts, strict=True) if n > 0]
    if not pairs:
        return nan, nan
    cases = sum(n for _, n in pairs)
    mean = sum(total for total, _ in pairs) / cases
    if len(pairs) < 2:
        return mean, nan
    spread = sum((total - mean * n) ** 2 for total, n in pairs) * len(pairs) / (len(pairs) - 1)
    return mean, sqrt(spread) / cases


def replicates(
    by_prompt: Float[np.ndarray, "K n"], count: int = REPLICATES, sizes: Float[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "K R"]:
    """Mean of each row when the prompts are drawn again: the Bayesian bootstrap with one unseen prompt.

    A replicate weights the prompts at random, and an unseen prompt whose value is drawn from Beta(1/2, 1/2).

    Args:
        by_prompt: K quantities in [0, 1] on the same n prompts; NaN where a prompt has none.
        count: of replicates, R. In each of them all rows give a prompt the same weight.
        sizes: how much each prompt counts in the mean, such as its number of pairs; None for all alike. The unseen
            prompt counts as much as they do on average.
    """
    random = np.random.default_rng(SEED)
    seen = random.standard_exponential((by_prompt.shape[1], count))
    seen = seen if sizes is None else seen * (sizes / sizes.mean())[:, None]
    outcome = random.beta(0.5, 0.5, (len(by_prompt), count))
    unseen = random.standard_gamma(_unseen(by_prompt)[:, None], outcome.shape)
    known = ~np.isnan(by_prompt)
    return (np.where(known, by_prompt, 0) @ seen + unseen * outcome) / (known.astype(np.float64) @ seen + unseen)


def _unseen(by_prompt: Float[np.ndarray, "K n"]) -> Float[np.ndarray, " K"]:
    """Weight of the unseen prompt, from how far the seen ones differ; 1 where they cannot show it."""
    known = ~np.isnan(by_prompt)
    n, total = known.sum(axis=1), np.nansum(by_prompt, axis=1)
    share = total / np.maximum(n, 1)
    squares = np.nansum((by_prompt - share[:, None]) ** 2, axis=1)
    possible = (n - 1) * share * (1 - share)
    spread = np.divide(squares, possible, out=np.ones(len(n)), where=possible > 1e-12)
    return LEAST_UNSEEN + (1 - LEAST_UNSEEN) * np.minimum(1, spread / SPREAD_OUT)


def middle(
    values: Float[np.ndarray, "K R"], measured: Float[np.ndarray, " K"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """The middle 95 % of each row, widened where it takes that to hold what was measured."""
    low, high = np.quantile(values, [0.025, 0.975], axis=1)
    return np.minimum(low, measured), np.maximum(high, measured)


def redrawn(by_prompt: Float[np.ndarray, " n"], sizes: Float[np.ndarray, " n"] | None = None) -> tuple[float, float]:
    """The interval of a mean over prompts; (nan, nan) where no prompt has a value.

    Args:
        by_prompt: the value of each prompt, in [0, 1], such as the win rate over all pairs of answers to it; NaN where
            there is none.
        sizes: how much each prompt counts in the mean, 0 where it has no value; None for all alike.
    """
    known = ~np.isnan(by_prompt)
    if not known.any():
        return nan, nan
    measured = np.average(by_prompt[known], weights=None if sizes is None else sizes[known], keepdims=True)
    low, high = middle(replicates(by_prompt[None], sizes=sizes), measured)
    return float(low[0]), float(high[0])

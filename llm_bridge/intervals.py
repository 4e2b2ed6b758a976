"""95 % intervals of shares, for numbers that stand in reports.

Wilson's (1927) interval: the shares p for which the observed one is within z standard errors of p. It stays inside
[0, 1] and does not shrink to a point at 0 or 1. For means of values in [0, 1], such as preferences or the means of
clusters, p (1 - p) bounds the variance from above, so the interval is at least as wide as it has to be. Where that is
too wide to see anything, `clustered` has the standard error that the clusters themselves show.
"""

from collections.abc import Sequence
from math import nan, sqrt

Z = 1.959964  # 97.5 % of the standard normal distribution


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

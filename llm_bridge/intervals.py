"""95 % intervals of shares, for numbers that stand in reports.

Wilson's (1927) interval: the shares p for which the observed one is within z standard errors of p. It stays inside
[0, 1] and does not shrink to a point at 0 or 1. For means of values in [0, 1], such as preferences or the means of
clusters, p (1 - p) bounds the variance from above, so the interval is at least as wide as it has to be.
"""

from math import nan, sqrt

Z = 1.959964  # 97.5 % of the standard normal distribution


def wilson(share: float, n: int) -> tuple[float, float]:
    """The interval of a share among n independent cases; (nan, nan) where there is none."""
    if n <= 0 or not 0 <= share <= 1:
        return nan, nan
    centre, spread = share + Z * Z / (2 * n), Z * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)

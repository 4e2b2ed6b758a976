"""The interior point of many matrix games at once: small dense systems in place of one sparse one.

The method is that of `mmd.algorithms.interior`, without its last correction. In a matrix game the system of
`mmd.algorithms._newton` shrinks to the column player's strategy. With X = diag(x / z) and Y = diag(w / y),

    dx = X (a + A dy - 1 dp)          H dy = b - A^T X a + A^T X 1 dp - 1 dq,    H = A^T X A + Y + rho 1 1^T

where 1^T dx and 1^T dy are known, which gives dp and dq by a 2 x 2 system and lets rho be anything: its mean diagonal
keeps H regular where A is antisymmetric. Games that have arrived leave the batch. What H cannot resolve any more, for
it squares the numbers in X, ends above the tolerance; the sparse form resolves it.

NumPy in float64. Letters as in `mmd.game.padded`.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mmd.game.padded import Matrices

TO_BOUNDARY = 0.97  # of the way to where an entry would be 0, at least
SMALLEST_GAP = 1e-16  # of the largest payoff, less the mid-range: what products of rounded numbers can still tell
MOST_ITERATIONS = 60

Strategies = tuple[Float[np.ndarray, "G m"], Float[np.ndarray, "G n"]]


class Found(NamedTuple):
    """What came of a batch.

    Attributes:
        strategies: of the row and of the column players.
        iterations: how many each game took.
    """

    strategies: Strategies
    iterations: Int[np.ndarray, " G"]


class Point(NamedTuple):
    """Strictly feasible points of the games, or directions: strategies, slacks, values."""

    x: Float[np.ndarray, "G m"]
    z: Float[np.ndarray, "G m"]
    p: Float[np.ndarray, "G 1"]
    y: Float[np.ndarray, "G n"]
    w: Float[np.ndarray, "G n"]
    q: Float[np.ndarray, "G 1"]

    @property
    def gap(self) -> Float[np.ndarray, " G"]:
        """What both best responses are at most worth together, over the largest payoff."""
        return (self.x * self.z).sum(axis=1) + (self.y * self.w).sum(axis=1)

    def moved(self, lengths: tuple[Any, Any], d: "Point") -> "Point":
        """Steps of two lengths: the first for x, w and q, the second for y, z and p."""
        a, b = lengths
        return Point(
            self.x + a * d.x, self.z + b * d.z, self.p + b * d.p, self.y + b * d.y, self.w + a * d.w, self.q + a * d.q
        )

    def at(self, index: Any) -> "Point":
        """Some of the games."""
        return Point(*(part[index] for part in self))


def equilibria(games: Matrices, most_iterations: int = MOST_ITERATIONS) -> Found:
    """Approximate equilibria of matrix games, as near as the dense form comes; nothing is certified here.

    Args:
        games: the games.
        most_iterations: for each game.
    """
    wide = games.payoffs.shape[2] > games.payoffs.shape[1]
    payoffs = _scaled(games)
    if wide:  # H has a row for each action of the player with fewer
        games = Matrices(-payoffs.transpose(0, 2, 1), games.columns, games.rows)
    else:
        games = games._replace(payoffs=payoffs)
    with np.errstate(all="ignore"):
        best, iterations = _followed(games, most_iterations)
    x, y = (np.where(there, p, 0.0) for p, there in zip((best.x, best.y), games.exist, strict=True))
    x, y = x / x.sum(axis=1, keepdims=True), y / y.sum(axis=1, keepdims=True)
    return Found((y, x) if wide else (x, y), iterations)


def _scaled(games: Matrices) -> Float[np.ndarray, "G m n"]:
    """Payoffs less their mid-range, over the largest of them; 0 where there is no action."""
    there = games.rows[:, :, None] & games.columns[:, None, :]
    low = np.where(there, games.payoffs, np.inf).min(axis=(1, 2), keepdims=True)
    high = np.where(there, games.payoffs, -np.inf).max(axis=(1, 2), keepdims=True)
    half = high / 2 - low / 2
    return np.where(there, games.payoffs - (low / 2 + high / 2), 0.0) / np.where(half > 0, half, 1.0)


def _followed(games: Matrices, most_iterations: int) -> tuple[Point, Int[np.ndarray, " G"]]:
    """The point of the smallest NashConv of each game, and how many iterations it took to end."""
    best = _start(games)
    least = _nash_conv(games, best)
    iterations = np.zeros(len(games.payoffs), int)
    going, point = np.arange(len(games.payoffs)), best
    on = least > SMALLEST_GAP
    for iteration in range(1, most_iterations + 1):
        going, point = going[on], point.at(on)
        if len(going) == 0:
            break
        games_on = games.at(going)
        last, point = point.gap, _advanced(games_on, point)
        nash_conv = _nash_conv(games_on, point)
        better = nash_conv < least[going]  # false where the system could not be solved
        at = going[better]
        least[at] = nash_conv[better]
        for kept, new in zip(best, point.at(better), strict=True):
            kept[at] = new
        iterations[going] = iteration
        on = (point.gap < last) & (point.gap > SMALLEST_GAP) & (nash_conv > SMALLEST_GAP)
    return best, iterations


def _nash_conv(games: Matrices, point: Point) -> Float[np.ndarray, " G"]:
    """NashConv of the strategies themselves, over the largest payoff: rounding may have parted the slacks from them."""
    x, y = (np.where(p > 0, p, 0.0) / np.maximum(p, 0.0).sum(axis=1, keepdims=True) for p in (point.x, point.y))
    to_row, to_column = _products(games.payoffs, x, y)
    rows, columns = games.exist
    return np.where(rows, to_row, -np.inf).max(axis=1) + np.where(columns, -to_column, -np.inf).max(axis=1)


def _start(games: Matrices) -> Point:
    """Uniform strategies, and the least values that leave all slacks and their products comparable."""
    rows, columns = games.exist
    x, y = (there / there.sum(axis=1, keepdims=True) for there in (rows, columns))
    to_row, to_column = _products(games.payoffs, x, y)
    best = [
        np.where(there, g, -np.inf).max(axis=1, keepdims=True)
        for there, g in zip((rows, columns), (to_row, -to_column), strict=True)
    ]
    sizes = [there.sum(axis=1, keepdims=True) for there in (rows, columns)]
    mu = (best[0] + best[1]) / np.sqrt(sizes[0] + sizes[1])
    p, q = (b + np.clip(n * mu, 1e-12, 1.0) for b, n in zip(best, sizes, strict=True))
    return Point(x, np.where(rows, p - to_row, 0.0), p, y, np.where(columns, q + to_column, 0.0), q)


def _products(payoffs: Any, x: Any, y: Any) -> Strategies:
    """(A y, A^T x)."""
    return (payoffs @ y[:, :, None])[:, :, 0], (x[:, None, :] @ payoffs)[:, 0]


def _advanced(games: Matrices, point: Point) -> Point:
    """The next points: predictor and corrector."""
    rows, columns = games.exist
    count = (rows.sum(axis=1) + columns.sum(axis=1))[:, None]
    system = _System(games, point)
    xz, yw = -point.x * point.z, -point.y * point.w
    predicted = system.direction(xz, yw)
    ahead = point.moved(_longest(games, point, predicted), predicted)
    gap = point.gap[:, None]
    target = gap / count * (np.maximum(ahead.gap[:, None], 0.0) / gap) ** 3
    direction = system.direction(
        np.where(rows, target + xz - predicted.x * predicted.z, 0.0),
        np.where(columns, target + yw - predicted.y * predicted.w, 0.0),
    )
    short = np.maximum(TO_BOUNDARY, 1 - gap)
    first, second = _longest(games, point, direction)
    return point.moved((np.minimum(short * first, 1.0), np.minimum(short * second, 1.0)), direction)


def _longest(games: Matrices, point: Point, d: Point) -> tuple[Float[np.ndarray, "G 1"], Float[np.ndarray, "G 1"]]:
    """Both step lengths, at most 1, at which an entry becomes 0."""

    def falls(now: Any, change: Any, there: Any) -> Any:
        return np.where(there & (change < 0), -now / change, 1.0).min(axis=1, keepdims=True)

    rows, columns = games.exist
    first = np.minimum(falls(point.x, d.x, rows), falls(point.w, d.w, columns))
    second = np.minimum(falls(point.y, d.y, columns), falls(point.z, d.z, rows))
    return np.minimum(first, 1.0), np.minimum(second, 1.0)


class _System:
    """Newton's system at some points, factored."""

    def __init__(self, games: Matrices, point: Point) -> None:
        self.payoffs, (self.rows, self.columns), self.point = games.payoffs, games.exist, point
        self.some_x, self.some_y = np.where(self.rows, point.x, 1.0), np.where(self.columns, point.y, 1.0)
        self.theta_x = np.where(self.rows, point.z / self.some_x, 1.0)
        self.theta_y = np.where(self.columns, point.w / self.some_y, 1.0)
        self.over_x = np.where(self.rows, 1 / self.theta_x, 0.0)
        self.weighted = self.payoffs * self.over_x[:, :, None]
        self.ones, self.border = self.columns.astype(float), self.weighted.sum(axis=1)  # 1, A^T X 1
        matrix, diagonal = self.payoffs.transpose(0, 2, 1) @ self.weighted, np.arange(self.columns.shape[1])
        matrix[:, diagonal, diagonal] += self.theta_y
        self.rho = np.mean(matrix[:, diagonal, diagonal], axis=1, keepdims=True)
        self.inverse = _inverse(matrix + self.rho[:, :, None] * (self.ones[:, :, None] * self.ones[:, None, :]))
        self.by_border, self.by_ones = self._times(self.border), self._times(self.ones)
        to_row, to_column = _products(self.payoffs, point.x, point.y)
        self.slack_row = np.where(self.rows, point.z - point.p + to_row, 0.0)
        self.slack_column = np.where(self.columns, point.w - point.q - to_column, 0.0)

    def _times(self, vectors: Float[np.ndarray, "G n"]) -> Float[np.ndarray, "G n"]:
        return (self.inverse @ vectors[:, :, None])[:, :, 0]

    def direction(self, changes_x: Float[np.ndarray, "G m"], changes_y: Float[np.ndarray, "G n"]) -> Point:
        """Newton's direction towards these changes of x z and y w, refined once."""
        a = np.where(self.rows, changes_x / self.some_x, 0.0) + self.slack_row
        b = np.where(self.columns, changes_y / self.some_y, 0.0) + self.slack_column
        short = 1 - self.point.x.sum(axis=1, keepdims=True), 1 - self.point.y.sum(axis=1, keepdims=True)
        dx, dy, dp, dq = self._eliminated(a, b, short)
        to_dx, to_dy = _products(self.payoffs, dx, dy)
        rest_a = np.where(self.rows, a - self.theta_x * dx + to_dx - dp, 0.0)
        rest_b = np.where(self.columns, b - self.theta_y * dy - to_dy - dq, 0.0)
        rest = short[0] - dx.sum(axis=1, keepdims=True), short[1] - dy.sum(axis=1, keepdims=True)
        more = self._eliminated(rest_a, rest_b, rest)
        dx, dy, dp, dq = (now + extra for now, extra in zip((dx, dy, dp, dq), more, strict=True))
        dz = np.where(self.rows, (changes_x - self.point.z * dx) / self.some_x, 0.0)
        dw = np.where(self.columns, (changes_y - self.point.w * dy) / self.some_y, 0.0)
        return Point(dx, dz, dp, dy, dw, dq)

    def _eliminated(self, a: Any, b: Any, sums: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
        """(dx, dy, dp, dq) of the right side (a, b) and the sums of dx and dy."""
        right = b - (self.weighted.transpose(0, 2, 1) @ a[:, :, None])[:, :, 0] + self.rho * sums[1] * self.ones
        base = self._times(right)
        # 1^T dy = sums[1] and 1^T X (a + A dy - 1 dp) = sums[0], in dp and dq
        m11, m12 = _total(self.by_border), -_total(self.by_ones)
        m21 = _total(self.border * self.by_border) - _total(self.over_x)
        m22 = -_total(self.border * self.by_ones)
        r1, r2 = sums[1] - _total(base), sums[0] - _total(self.over_x * a) - _total(self.border * base)
        determinant = m11 * m22 - m12 * m21
        dp, dq = (r1 * m22 - m12 * r2) / determinant, (m11 * r2 - m21 * r1) / determinant
        dy = base + self.by_border * dp - self.by_ones * dq
        return self.over_x * (a + (self.payoffs @ dy[:, :, None])[:, :, 0] - dp), dy, dp, dq


def _total(values: Float[np.ndarray, "G n"]) -> Float[np.ndarray, "G 1"]:
    return values.sum(axis=1, keepdims=True)


def _inverse(matrix: Float[np.ndarray, "G n n"]) -> Float[np.ndarray, "G n n"]:
    """The inverses; NaN for a batch in which one is singular, which ends those games."""
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.stack([_inverse(one[None])[0] for one in matrix]) if len(matrix) > 1 else np.full_like(matrix, np.nan)

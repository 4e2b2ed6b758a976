"""The interior point of many matrix games at once: small dense systems in place of one sparse one.

The method is that of `mmd.algorithms.interior`, without its last correction. In a matrix game the system of
`mmd.algorithms._newton` shrinks to the column player's strategy. With X = diag(x / z), Y = diag(w / y), and B the
payoffs A less the mean of each column in the weights X,

    dx = X (a + A dy - 1 dp)          H dy = b - B^T X a - m 1^T dx - 1 dq,      H = B^T X B + Y + rho 1 1^T

where m are those means, and 1^T dx and 1^T dy are known: that gives dp and dq, and lets rho be anything: its mean
diagonal keeps H regular where A is antisymmetric. Games that have arrived leave the batch. What H cannot resolve any
more, for it squares the numbers in X, ends above the tolerance; the sparse form resolves it.

NumPy in float64. Letters as in `mmd.game.padded`.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mmd.game.padded import Matrices

TO_BOUNDARY = 0.97  # of the way to where an entry would be 0, at least
SMALLEST_GAP = 1e-16  # of the largest payoff, less the mid-range: what products of rounded numbers can still tell
MOST_ITERATIONS = 60
SHIFT = 1e-15  # of the mean diagonal, added to H: pivots that rounding would make 0

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
    x, y = (np.where(there, np.maximum(p, 0.0), 0.0) for p, there in zip((best.x, best.y), games.exist, strict=True))
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
    products = _products(games.payoffs, best.x, best.y)
    least = _nash_conv(games, best, products)
    iterations = np.zeros(len(games.payoffs), int)
    going, point = np.arange(len(games.payoffs)), best
    on = least > SMALLEST_GAP
    for iteration in range(1, most_iterations + 1):
        if not on.all():
            stay = np.flatnonzero(on)
            going, point, games = going[stay], point.at(stay), games.at(stay)
            products = products[0][stay], products[1][stay]
        if len(going) == 0:
            break
        last, point = point.gap, _advanced(games, point, products)
        products = _products(games.payoffs, point.x, point.y)
        nash_conv = _nash_conv(games, point, products)
        better = nash_conv < least[going]  # false where the system could not be solved
        at = going[better]
        least[at] = nash_conv[better]
        for kept, new in zip(best, point.at(better), strict=True):
            kept[at] = new
        iterations[going] = iteration
        on = (point.gap < last) & (point.gap > SMALLEST_GAP) & (nash_conv > SMALLEST_GAP)
    return best, iterations


def _nash_conv(games: Matrices, point: Point, products: Strategies) -> Float[np.ndarray, " G"]:
    """NashConv of the strategies themselves, over the largest payoff: rounding may have parted the slacks from them."""
    to_row, to_column = products
    row = np.where(games.rows, to_row, -np.inf).max(axis=1) / point.y.sum(axis=1)
    return row - np.where(games.columns, to_column, np.inf).min(axis=1) / point.x.sum(axis=1)


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


def _advanced(games: Matrices, point: Point, products: Strategies) -> Point:
    """The next points: predictor and corrector. `products` are those of `_products` at the points."""
    rows, columns = games.exist
    count = rows.sum(axis=1) + columns.sum(axis=1)
    system = _System(games, point, products)
    xz, yw = -point.x * point.z, -point.y * point.w
    predicted = system.direction(xz, yw)
    ahead = point.moved(system.longest(predicted), predicted)
    gap = point.gap
    target = (gap / count * (np.maximum(ahead.gap, 0.0) / gap) ** 3)[:, None]
    direction = system.direction(
        np.where(rows, target + xz - predicted.x * predicted.z, 0.0),
        np.where(columns, target + yw - predicted.y * predicted.w, 0.0),
        refined=True,
    )
    short = np.maximum(TO_BOUNDARY, 1 - gap)[:, None]
    first, second = system.longest(direction)
    return point.moved((np.minimum(short * first, 1.0), np.minimum(short * second, 1.0)), direction)


class _System:
    """Newton's system at some points, factored. What is missing has a diagonal of 1 and payoffs of 0."""

    def __init__(self, games: Matrices, point: Point, products: Strategies) -> None:
        self.payoffs, self.point, self.ones = games.payoffs, point, games.columns.astype(float)
        there = games.rows, games.rows, games.columns, games.columns
        positive = zip((point.x, point.z, point.y, point.w), there, strict=True)
        self.x, self.z, self.y, self.w = (np.where(exists, part, 1.0) for part, exists in positive)
        self.theta_x, self.theta_y = self.z / self.x, self.w / self.y
        self.over_x = np.where(games.rows, self.x / self.z, 0.0)
        self.total = _total(self.over_x)
        self.mean = (self.over_x[:, None, :] @ self.payoffs)[:, 0] / self.total
        self.centred = self.payoffs - self.mean[:, None, :]
        self.weighted = self.centred * self.over_x[:, :, None]
        matrix, diagonal = self.centred.transpose(0, 2, 1) @ self.weighted, np.arange(self.ones.shape[1])
        self.rho = np.mean(matrix[:, diagonal, diagonal] + self.theta_y, axis=1, keepdims=True)
        matrix += (self.rho * self.ones)[:, :, None] * self.ones[:, None, :]
        matrix[:, diagonal, diagonal] += self.theta_y + SHIFT * self.rho
        self.inverse = _inverse(matrix)
        self.by_ones = self._times(self.ones)
        self.slack_row = point.z - point.p + products[0]
        self.slack_column = (point.w - point.q - products[1]) * self.ones
        self.short = 1 - _total(point.x), 1 - _total(point.y)

    def longest(self, d: Point) -> tuple[Float[np.ndarray, "G 1"], Float[np.ndarray, "G 1"]]:
        """Both step lengths, at most 1, at which an entry becomes 0."""

        def fastest(change: Any, now: Any) -> Any:
            return (-change / now).max(axis=1, keepdims=True)

        first = np.maximum(fastest(d.x, self.x), fastest(d.w, self.w))
        second = np.maximum(fastest(d.y, self.y), fastest(d.z, self.z))
        return 1 / np.maximum(first, 1.0), 1 / np.maximum(second, 1.0)

    def direction(self, changes_x: Any, changes_y: Any, *, refined: bool = False) -> Point:
        """Newton's direction towards these changes of x z and y w."""
        a, b = changes_x / self.x + self.slack_row, changes_y / self.y + self.slack_column
        dx, dy, dp, dq = self._eliminated(a, b, self.short)
        if refined:
            to_dx, to_dy = _products(self.payoffs, dx, dy)
            rest_a, rest_b = a - self.theta_x * dx + to_dx - dp, (b - self.theta_y * dy - to_dy - dq) * self.ones
            rest = self.short[0] - _total(dx), self.short[1] - _total(dy)
            more = self._eliminated(rest_a, rest_b, rest)
            dx, dy, dp, dq = (now + extra for now, extra in zip((dx, dy, dp, dq), more, strict=True))
        dz, dw = (changes_x - self.point.z * dx) / self.x, (changes_y - self.point.w * dy) / self.y
        return Point(dx, dz, dp, dy, dw, dq)

    def _eliminated(self, a: Any, b: Any, sums: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
        """(dx, dy, dp, dq) of the right side (a, b) and the sums of dx and dy."""
        right = b - (a[:, None, :] @ self.weighted)[:, 0] - self.mean * sums[0] + self.rho * sums[1] * self.ones
        base = self._times(right)
        dq = (_total(base) - sums[1]) / _total(self.by_ones)
        dy = base - self.by_ones * dq
        rest = (_total(self.over_x * a) - sums[0]) / self.total
        dx = self.over_x * (a + (self.centred @ dy[:, :, None])[:, :, 0] - rest)
        return dx, dy, _total(self.mean * dy) + rest, dq

    def _times(self, vectors: Float[np.ndarray, "G n"]) -> Float[np.ndarray, "G n"]:
        return (self.inverse @ vectors[:, :, None])[:, :, 0]


def _total(values: Float[np.ndarray, "G n"]) -> Float[np.ndarray, "G 1"]:
    return values.sum(axis=1, keepdims=True)


def _inverse(matrix: Float[np.ndarray, "G n n"]) -> Float[np.ndarray, "G n n"]:
    """The inverses; NaN where there is none, which ends those games."""
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        if len(matrix) == 1:
            return np.full_like(matrix, np.nan)
        return np.concatenate([_inverse(half) for half in np.array_split(matrix, 2)])

"""Quantal response equilibria: where magnetic mirror descent with a fixed magnet goes, for one alpha or a path of them.

The equilibrium of the game in which each player also pays alpha KL(., magnet), the dilated KL with unit weights, is the
pair of policies that are each other's regularized best response. With the uniform policy as magnet it is the logit
quantal response equilibrium (McKelvey & Palfrey 1995, 1998) of reduced plans: of a matrix game exactly, of a tree the
one that MMD is about (Sokota et al. 2023).

    x+ = prox(x; A y),   y+ = prox(y; -(2 A^T x+ - A^T x))         the magnetic step, with step eta and pull alpha

The players move in turn, the column player with an extrapolated gradient, and eta adapts by the rule of
`mmd.algorithms._primal_dual`. A run ends on what defines the equilibrium and shares nothing with the steps: the
regularized gap, and the residual, by how much the plans differ from the regularized best responses to each other.

Proven: with a constant eta < 1 / L the last iterate converges linearly (Chambolle & Pock 2016, section 5, with strong
convexity relative to the dilated entropy). Measured: that it does as well with steps that adapt. To first order, and in
the metric of the entropy, the residual is at least the distance to the equilibrium: it is the difference to it, less a
skew part.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.algorithms._primal_dual import Metric, Pull, judged, stepped
from mmd.game.game import Description, Game, GameError, Pair, as_game
from mmd.game.policy import Policy, labels_of
from mmd.host.drawing import COLORS, empty_figure, save_figure
from mmd.magnets import Fixed
from mmd.measure import metrics
from mmd.measure.certificate import certify
from mmd.measure.metrics import Profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHECK_EVERY = 50
CHUNK = 5_000  # iterations in one call of the compiled program, between which Ctrl-C is heard
GAP = 1e-12  # of the payoff range: regularized gap that counts as 0
RESIDUAL = 1e-10  # largest difference of a realisation probability from the best response's
MOST_DRAWN = 8  # actions whose probabilities a figure shows
CONVERGED = "converged: each policy is the regularized best response to the other"
LIMIT = (
    "stopped at the iteration limit: the regularized gap is {gap:.1e}, and plans are {residual:.1e} from best responses"
)
NONFINITE = "stopped because the iterate was no longer finite: alpha is too small for float64"


@dataclass(frozen=True, repr=False)
class QuantalResponse:
    """A quantal response equilibrium, as far as it was reached.

    Attributes:
        game: the game.
        alpha: regularization, in payoff units.
        policy: of both players.
        converged: whether the regularized gap and the residual are as small as was asked.
        status: the same in words, with what was reached.
        regularized_gap: duality gap of the regularized game, in payoff units; rounding may leave it below 0.
        residual: largest difference of a realisation probability from the regularized best response to the opponent.
        value: payoff of the row player in the original game, in the units of the input.
        nash_conv: NashConv in the original game, in payoff units, as certified; not small unless alpha is.
        iterations: of the run.
    """

    game: Game
    alpha: float
    policy: Policy
    converged: bool
    status: str
    regularized_gap: float
    residual: float
    value: float
    nash_conv: float
    iterations: int

    @property
    def exploitability(self) -> float:
        """NashConv / 2 in the original game, in payoff units."""
        return self.nash_conv / 2

    def __repr__(self) -> str:
        numbers = f"alpha {self.alpha:g}, regularized gap {self.regularized_gap:.1e}, exploitability"
        return f"QuantalResponse({self.game.name}: {numbers} {self.exploitability:.3e}; {self.status})"


@dataclass(frozen=True, repr=False)
class QuantalPath(Sequence[QuantalResponse]):
    """Quantal response equilibria of one game, in the order of the alphas that were given.

    Attributes:
        responses: one for each alpha.
    """

    responses: tuple[QuantalResponse, ...]

    def __len__(self) -> int:
        return len(self.responses)

    @overload
    def __getitem__(self, index: int) -> QuantalResponse: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[QuantalResponse, ...]: ...
    def __getitem__(self, index: int | slice) -> QuantalResponse | tuple[QuantalResponse, ...]:
        return self.responses[index]

    def __repr__(self) -> str:
        done = sum(one.converged for one in self)
        return f"QuantalPath({self[0].game.name}: {len(self)} alphas, {done} converged)"

    def table(self) -> list[tuple[Any, ...]]:
        """A row for each: alpha, regularized gap, residual, exploitability, value, iterations, status."""
        return [
            (q.alpha, q.regularized_gap, q.residual, q.exploitability, q.value, q.iterations, q.status) for q in self
        ]

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Exploitability over alpha, and the row player's probabilities in a matrix game of at most eight actions.

        Args:
            path: .png, .svg or .pdf to write; not written if None.

        Raises:
            OutputError: matplotlib cannot be imported, or the figure cannot be written.
        """
        game, alphas = self[0].game, [one.alpha for one in self]
        order = np.argsort(alphas)
        actions = labels_of(game)[0].actions[0] if game.is_matrix else ()
        figure = empty_figure(
            figsize=(9.5, 4.0) if 0 < len(actions) <= MOST_DRAWN else (5.2, 4.0), layout="constrained"
        )
        axes = np.atleast_1d(figure.subplots(1, 1 + (0 < len(actions) <= MOST_DRAWN)))
        exploitability = np.array([one.exploitability for one in self])
        axes[0].plot(np.array(alphas)[order], exploitability[order], "o-", color=COLORS[0], markersize=3)
        scale = "log" if (exploitability > 0).all() else "linear"
        axes[0].set(xscale="log", yscale=scale, ylabel="exploitability (NashConv / 2)")
        if len(axes) > 1:
            plans = np.array([one.policy.probabilities[0][1:] for one in self])[order]
            for n, action in enumerate(actions):
                axes[1].plot(np.array(alphas)[order], plans[:, n], "o-", color=COLORS[n], markersize=3, label=action)
            axes[1].set(xscale="log", ylabel="probability, row player", ylim=(-0.02, 1.02))
            for text in axes[1].legend(fontsize="small").get_texts():
                text.set_parse_math(False)
        for panel in axes:
            panel.set_xlabel("alpha, in payoff units")
            panel.grid(visible=True, alpha=0.3)
        figure.suptitle(f"{game.name}: quantal response equilibria", parse_math=False)
        if path is not None:
            save_figure(figure, path, dpi=200)
        return figure


def qre(
    game: Game | Any,
    alpha: float,
    *,
    center: Any = "uniform",
    tolerance: float | None = None,
    max_iterations: int = 200_000,
) -> QuantalResponse:
    """The quantal response equilibrium of a game for one alpha; several at once: `qre_path`.

    Args:
        game: a `Game`, an [m, n] array of payoffs, or the name or file of a game, as `games.load` takes them.
        alpha: regularization towards the magnet (> 0), in payoff units; 1 / alpha is the precision of logit responses.
        center: the magnet, which stays: "uniform", "dilated", or a policy, as for `mmd.Fixed`.
        tolerance: bound on the regularized gap, in payoff units; 1e-12 of the payoff range if None, or of alpha
            where all payoffs are equal. Besides, no realisation probability may differ from the regularized best
            response's by more than 1e-10.
        max_iterations: iterations allowed.

    Raises:
        GameError: there is no such game, or a number is out of range.
    """
    return qre_path(game, [alpha], center=center, tolerance=tolerance, max_iterations=max_iterations)[0]


def qre_path(
    game: Game | Any,
    alphas: Iterable[float],
    *,
    center: Any = "uniform",
    tolerance: float | None = None,
    max_iterations: int = 200_000,
) -> QuantalPath:
    """Quantal response equilibria for many alphas, the largest first, each from the one before.

    Args:
        game, center, tolerance: as for `qre`.
        alphas: regularizations (> 0), in payoff units, in any order.
        max_iterations: iterations allowed for each.

    Raises:
        GameError: there is no such game, no alpha, or a number is out of range.
    """
    game, given = as_game(game), [float(alpha) for alpha in alphas]
    if not given or not all(0 < alpha < np.inf for alpha in given):
        raise GameError(f"expected positive numbers for alpha, got {given!r:.60}")
    if not (tolerance is None or tolerance >= 0) or not max_iterations >= 1:
        raise GameError(f"expected a tolerance >= 0 and max_iterations >= 1, got {tolerance} and {max_iterations}")
    found: dict[float, QuantalResponse] = {}
    with jax.enable_x64(True):
        solver = _Solver.of(game, Fixed(center=center), tolerance, max_iterations)
        for alpha in sorted(set(given), reverse=True):
            solver, found[alpha] = solver.next(alpha)
    return QuantalPath(tuple(found[alpha] for alpha in given))


class _State(NamedTuple):
    """The iterate, the step size, steps and refusals since alpha was set, and what was measured at the last check."""

    iterate: Profile
    eta: Float[Array, ""]
    steps: Int[Array, ""]
    refused: Int[Array, ""]
    gap: Float[Array, ""]
    residual: Float[Array, ""]


class _Solver(NamedTuple):
    """Where a path has arrived."""

    game: Game
    on_device: Game
    log_magnet: Pair
    tolerance: float | None
    max_iterations: int
    state: _State

    @classmethod
    def of(cls, game: Game, magnet: Fixed, tolerance: float | None, max_iterations: int) -> "_Solver":
        """At the magnet."""
        on_device = replace(game, description=Description("", 0.0)).astype(jnp.float64)
        log_magnet = tuple(jnp.asarray(log, jnp.float64) for log in magnet.resolve(game).start(on_device))
        zero, unknown, eta = jnp.zeros((), int), _number(np.inf), _number(1.0 / (game.description.payoff_range or 1.0))
        state = _State(_profile(on_device, log_magnet), eta, zero, zero, unknown, unknown)
        return cls(game, on_device, log_magnet, tolerance, max_iterations, state)

    def next(self, alpha: float) -> tuple["_Solver", QuantalResponse]:
        """The equilibrium for an alpha, from where the path is; a path does not go on from what is not finite."""
        zero, unknown = jnp.zeros((), int), _number(np.inf)
        state = self.state._replace(steps=zero, refused=zero, gap=unknown, residual=unknown)
        default = GAP * (self.game.description.payoff_range or alpha)  # in a constant game only the magnet pulls
        bound = default if self.tolerance is None else self.tolerance
        at, goal = _number(alpha), jnp.asarray([bound, RESIDUAL])
        gap = residual = np.inf
        for most in [*range(CHUNK, self.max_iterations, CHUNK), self.max_iterations]:
            state = _advance(self.on_device, state, self.log_magnet, at, goal, jnp.asarray(most))
            gap, residual = float(state.gap), float(state.residual)
            if not np.isfinite(gap) or (gap <= bound and residual <= RESIDUAL):
                break
        finite = bool(np.isfinite(gap))
        state = state if finite else self.state
        converged = finite and gap <= bound and residual <= RESIDUAL
        status = CONVERGED if converged else LIMIT.format(gap=gap, residual=residual) if finite else NONFINITE
        row, column = (np.asarray(log) for log in state.iterate.log_policy)
        policy = Policy.from_log(self.game, (row, column))
        certificate = certify(self.game, policy)
        outcome = (gap, residual, certificate.value, certificate.nash_conv, int(state.steps))
        return self._replace(state=state), QuantalResponse(self.game, alpha, policy, converged, status, *outcome)


_profile = jax.jit(metrics.profile)


def _number(value: float) -> Float[Array, ""]:
    """An array of float64. Of a Python number JAX makes one whose type is weak, and another program for it."""
    return jnp.asarray(np.float64(value))


@jax.jit
def _advance(
    game: Game, state: _State, log_magnet: Pair, alpha: Float[Array, ""], goal: Float[Array, " 2"], most: Int[Array, ""]
) -> _State:
    """Steps until the gap and the residual are at most `goal`, no longer finite, or there are `most`."""

    def open_(state: _State) -> Array:
        near = (state.gap <= goal[0]) & (state.residual <= goal[1])
        return (state.steps < most) & ~near & ~jnp.isnan(state.gap)

    def checked(state: _State) -> _State:
        until = jnp.minimum(state.steps + CHECK_EVERY, most)
        state = jax.lax.while_loop(lambda s: s.steps < until, lambda s: _step(game, s, log_magnet, alpha), state)
        at, residual = state.iterate, jnp.zeros_like(alpha)
        for player, plan, gradient, magnet in zip(game.players, at.plan, at.gradient, log_magnet, strict=True):
            response = metrics.regularized_best_response(player, gradient, magnet, alpha)[1]
            residual = jnp.maximum(residual, jnp.max(jnp.abs(player.top_down(response) - plan)))
        return state._replace(gap=metrics.regularized_gap(game, at, log_magnet, alpha), residual=residual)

    return jax.lax.while_loop(open_, checked, state)


def _step(game: Game, state: _State, log_magnet: Pair, alpha: Float[Array, ""]) -> _State:
    """One attempt: the step of the module docstring, taken if its length is admissible."""
    unit = Metric(
        tuple(jnp.ones(player.n_infosets) for player in game.players),
        tuple(jnp.ones(player.n_sequences) for player in game.players),
    )
    moved = stepped(game, state.iterate, Pull(log_magnet, unit, alpha), state.eta)
    accepted, eta = judged(moved, state.eta, state.steps, state.refused)
    return state._replace(
        iterate=jax.tree.map(lambda new, old: jnp.where(accepted, new, old), moved.profile, state.iterate),
        eta=eta,
        steps=state.steps + 1,
        refused=jnp.where(accepted, 0, state.refused + 1),
    )

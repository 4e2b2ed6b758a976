"""Interior: a primal-dual interior point method on the sequence form of both players. It is not mirror descent.

It follows the central path v_i s_i = mu of the self-dual program that `mmd.algorithms._newton` states, mu to 0, by
Newton's method: a predictor, Mehrotra's corrector, and up to three of Gondzio's. All iterates are feasible on both
sides, so `sum_i v_i s_i` bounds the NashConv, and it falls. There are two step lengths: one for (x, w, q), one for
(y, z, p).

Start: both players' uniform plans. Infoset values are those of a best response to them, each raised by a little that
leaves every slack above 0 and the products v_i s_i comparable.

Proven: for short steps along the central path, O(sqrt(S) log(1 / tolerance)) iterations (Wright 1997, chapter 5). Not
proven: that bound for the corrected long steps taken here. Measured: 4 to 60 iterations on every tree and matrix tried.
It computes on the host, in float64; no program is compiled. Where float64 cannot factor the last systems any more, the
method ends by itself with the best policy certified.

Source: Mehrotra 1992 (predictor and corrector); Gondzio 1996 (multiple centrality corrections); von Stengel 1996.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mmd.algorithms._interior_matrices import equilibria as equilibria
from mmd.algorithms.contract import Limits, Report
from mmd.game.game import Game
from mmd.game.policy import Policy
from mmd.measure.solution import Status

if TYPE_CHECKING:
    from mmd.algorithms._central_path import Point, Prepared
    from mmd.algorithms._newton import Work as Work

LARGE, SMALL_GAP = 50_000, 1e-8  # payoffs of a game, and a gap below which every iterate of it may have arrived


@dataclass(frozen=True, kw_only=True)
class Interior:
    """The interior point method; returns the best certified iterate. No number needs tuning."""

    name: ClassVar[str] = "interior"
    keeps_best: ClassVar[bool] = True

    prepared: "Prepared | None" = field(default=None, repr=False, compare=False, metadata={"derived": True})

    def resolve(self, game: Game) -> "Interior":
        """Find the elimination order."""
        ready = self.prepared is not None and self.prepared.game is game
        return self if ready else replace(self, prepared=_prepared(game))

    def run(self, game: Game, limits: Limits, report: Report) -> None:
        """Report uniform play, then the iterates, until told to stop or until the gap falls no further.

        In some games a certificate takes as long as a step. There only every tenfold fall of the gap is reported, what
        may have arrived, and the last one. Where time is limited all of them are.
        """
        from mmd.algorithms._central_path import path  # brings SciPy, which would slow the start of every command

        prepared = self.resolve(game).prepared
        assert prepared is not None
        some, reported, waiting = game.payoff.n_stored > LARGE and limits.time_limit is None, np.inf, None
        for iteration, point in enumerate(path(prepared)):
            waiting = iteration, point
            if some and iteration < limits.max_iterations and SMALL_GAP < point.gap > reported / 10:
                continue
            reported, waiting = point.gap, None
            if _said(prepared, report, iteration, point) is not None:
                return
        if waiting is not None:
            _said(prepared, report, *waiting)


def _said(prepared: "Prepared", report: Report, iteration: int, point: "Point") -> Status | None:
    """What the report of a point is answered with."""
    policy = Policy.from_plans(prepared.game, prepared.program.plans(point))
    return report(policy, iterate="interior", iteration=iteration, gradient_evaluations=iteration + 1)


def _prepared(game: Game) -> "Prepared":
    """The game's program, and its Newton system in an elimination order."""
    from mmd.algorithms._central_path import Prepared

    return Prepared.of(game)


ALGORITHM = Interior

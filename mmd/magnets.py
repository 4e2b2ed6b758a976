"""The magnet: where it starts and how it moves.

With a magnet that stays, magnetic mirror descent converges to the equilibrium of the game regularized towards it
(QRE). Moving the magnet to where the iterate has arrived carries the iterate towards the equilibrium of the original
game. This is Magnetic Preference Optimization (Wang et al. 2024, section 3), a conceptual prox method.

Two centres have names, and on a tree they are different magnets with different QREs. "dilated" minimises the dilated
entropy, the regularizer of the MMD paper (Prop. 2.4). "uniform" is the uniform behavioural policy. On a simplex they
coincide. Any policy with full support can be the centre as well.

`llm_bridge` uses the same objects; there one step is one round and the magnet is a set of weights.

A magnet from outside this package (`mmd.host.doors`) is an object of a class that derives from `Magnet`, or such a
class. The class's numbers may follow its name. `load` finds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from mmd.game.game import Game, GameError, Number, Pair
from mmd.game.policy import full_support
from mmd.game.treeplex import Treeplex
from mmd.host import doors

CENTERS = ("dilated", "uniform")
DOOR = doors.Door("magnets", GameError, "a mmd.Magnet, or a class that derives from it")
LARGEST = 2.0**127  # of a float32, to which 1 can still be added


class Range(NamedTuple):
    """Numbers from `least` to `most`, both of them inside."""

    least: float
    most: float
    words: str

    def has(self, value: Any) -> bool:
        """Whether a value is such a number, or an array of them."""
        array = np.asarray(value)
        real = jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating)
        return bool(real) and bool(np.all((array >= self.least) & (array <= self.most)))


AT_LEAST_0 = Range(0.0, LARGEST, ">= 0 and finite in float32")
AT_LEAST_1 = Range(1.0, LARGEST, ">= 1, in steps")
SHARE = Range(2.0**-126, 1.0, "in (0, 1]")


class Step(NamedTuple):
    """What a step did.

    Attributes:
        before: log-policies before it.
        plan, log_policy: both players' policies after it, in both forms.
        pull: eta alpha.
    """

    before: Pair
    plan: Pair
    log_policy: Pair
    pull: Float[Array, ""] | float


class Measured(NamedTuple):
    """How far a step went.

    Attributes:
        step_size: square root of the Bregman distance that the step covered, over eta alpha.
        distance: square root of the Bregman distance from the new iterate to the magnet.
    """

    step_size: Float[Array, ""]
    distance: Float[Array, ""]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Magnet:
    """A magnet that stays at its centre; the others say what they do instead.

    A method asks a magnet two things and no more. `alpha` says how strongly the magnet pulls in a step, and `share` how
    far the magnet moves towards the policy after the step. `moved` moves a magnet that is a policy, and
    `llm_bridge.train.weight_average` one that is a set of weights. Steps are counted from 0 where the magnet was put:
    at the start, or where the method itself has moved it.

    Attributes:
        center: "dilated", "uniform", a `Policy`, or a pair of log-policies ([S0], [S1]).
    """

    center: Any = "dilated"
    averages: ClassVar[bool] = False  # whether it is a mean of many policies, less noisy than each of them
    ranges: ClassVar[Mapping[str, Range]] = {}

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_pytree_node_class(cls)

    def tree_flatten(self) -> tuple[tuple, Any]:
        """Numbers and arrays are leaves; the name of a centre and absent numbers are static."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        static = {name: v for name, v in values.items() if v is None or isinstance(v, str)}
        return tuple(v for name, v in values.items() if name not in static), tuple(static.items())

    @classmethod
    def tree_unflatten(cls, static: tuple, leaves: tuple) -> "Magnet":
        """Inverse of `tree_flatten`."""
        named = dict(static)
        rest = iter(leaves)
        magnet = object.__new__(cls)
        for f in fields(cls):
            object.__setattr__(magnet, f.name, named[f.name] if f.name in named else next(rest))
        return magnet

    @property
    def travels(self) -> bool:
        """Whether the magnet ever leaves its centre, which is whether its class overrides `share`."""
        return type(self).share is not Magnet.share

    @property
    def regularizes(self) -> bool:
        """Whether the pull is the algorithm's alpha in every step, so that there is one regularized game.

        A magnet that overrides `alpha` changes its pull from step to step, and this is False.
        """
        return type(self).alpha is Magnet.alpha

    @property
    def measures(self) -> bool:
        """Whether `share` needs the distances of a `Measured`; False here."""
        return False

    def resolve(self, game: Game) -> "Magnet":
        """The same magnet with a given policy checked against the game and turned into log-probabilities (host code).

        Raises:
            GameError: a number is out of its range; the centre is no known name, has the wrong size, or gives
                probability 0 to an action.
        """
        self._check_numbers()
        self.check_answers()
        if isinstance(self.center, str):
            if self.center not in CENTERS:
                raise GameError(f"expected the magnet's centre to be one of {', '.join(CENTERS)}, got {self.center!r}")
            return self
        return replace(self, center=full_support(game, self.center, "magnet"))

    def _check_numbers(self) -> None:
        """That what is known is in its range; None is where it is the default."""
        for f in fields(self):
            value = getattr(self, f.name)
            unknown = isinstance(value, Tracer) or (value is None and f.default is None)
            if f.name in self.ranges and not unknown and not self.ranges[f.name].has(value):
                kind, words = type(self).__name__, self.ranges[f.name].words
                raise GameError(f"expected mmd.{kind} to have {f.name} {words}, got {value!r}")

    def check_answers(self) -> None:
        """That `alpha` and `share` of a class from outside this package answer with one number each (host code).

        They are traced once, and nothing is computed.

        Raises:
            GameError: they fail, or answer otherwise.
        """
        if doors.is_own(self):
            return
        far, name = Measured(jnp.ones(()), jnp.ones(())), type(self).__name__
        for what, answer in (("alpha", lambda k: self.alpha(1.0, 1.0, k)), ("share", lambda k: self.share(k, far))):
            try:
                found = jax.eval_shape(answer, jnp.ones((), int))
            except GameError:
                raise
            except (Exception, SystemExit) as error:
                raise GameError(f"magnet {name}: {what} raised {doors.error_of(error)}") from error
            if getattr(found, "shape", None) != ():
                raise GameError(f"magnet {name}: expected {what} to return one number, got {found}")

    def start(self, game: Game) -> Pair:
        """The magnet's first place, as log-policies."""
        if not isinstance(self.center, str):
            return tuple(jnp.asarray(log) for log in self.center)
        if self.center == "uniform":
            return tuple(jnp.asarray(player.uniform()) for player in game.players)
        return tuple(player.dilated_center() for player in game.players)

    def alpha(
        self, alpha: Float[Array, ""] | float, eta: Float[Array, ""] | float, k: Int[Array, ""] | int
    ) -> Float[Array, ""]:
        """Regularization of a step, in payoff units: here the algorithm's alpha, in every step.

        Args:
            alpha: the algorithm's alpha, in payoff units.
            eta: the step size.
            k: steps that are behind.
        """
        return jnp.asarray(alpha)

    def share(self, k: Int[Array, ""], measured: Measured | None = None) -> Float[Array, ""]:
        """The share h of the policy in the magnet after a step: 0 where the magnet stays, 1 where it is copied.

        Args:
            k: steps that are behind, this one included.
            measured: distances; None where nobody can measure them, which only a magnet that `measures` minds.
        """
        return jnp.zeros(())

    def moved(self, game: Game, log_magnet: Pair, step: Step, k: Int[Array, ""]) -> Pair:
        """The magnet after a step, as log-policies: `log mu <- (1 - h) log mu + h log pi`, normalised.

        Args:
            game: the game.
            log_magnet: the magnet during the step.
            step: what the step did.
            k: as in `share`.
        """
        measured = _measured(game, log_magnet, step) if self.measures else None
        h = jnp.asarray(self.share(k, measured)).astype(log_magnet[0].dtype)

        def between(player: Treeplex, mu: Array, pi: Array) -> Array:
            mixed = player.normalized((1 - h) * mu + h * pi)
            return jnp.where(h == 0, mu, jnp.where(h == 1, pi, mixed))

        return tuple(map(between, game.players, log_magnet, step.log_policy))


def _measured(game: Game, log_magnet: Pair, step: Step) -> Measured:
    def distance(reference: Pair) -> Array:
        parts = zip(game.players, step.plan, step.log_policy, reference, strict=True)
        return jnp.sqrt(sum(player.bregman(x, log_x, other) for player, x, log_x, other in parts))

    return Measured(distance(step.before) / step.pull, distance(log_magnet))


class Fixed(Magnet):
    """The magnet stays. The last iterate converges linearly to its QRE, which is proven (`mmd.measure.theory`)."""


@dataclass(frozen=True, kw_only=True)
class Refresh(Magnet):
    """The magnet is copied from the last iterate, periodically or once the regularized game is solved well enough.

    The measured rule copies when `sqrt D(z_k+1, z_k) <= residual * eta alpha * sqrt D(z_k+1, magnet)`, with D the
    Bregman distance. Then the iterate's last step is short against the way that the magnet is about to jump. Copying in
    every step is plain mirror descent, whose last iterate cycles. Copying too early makes the iteration diverge.

    Attributes:
        every: period in steps, >= 1, rounded up to a whole number; None for the measured rule.
        residual: the measured rule's factor, >= 0, used where `every` is None.
        center: where the magnet starts.
    """

    center: Any = "dilated"
    every: Number = None
    residual: Number = 0.3
    ranges: ClassVar[Mapping[str, Range]] = {"every": AT_LEAST_1, "residual": AT_LEAST_0}

    @property
    def measures(self) -> bool:
        """Whether the measured rule holds."""
        return self.every is None

    def share(self, k: Int[Array, ""], measured: Measured | None = None) -> Float[Array, ""]:
        """1 in the steps that copy the policy, 0 in the others.

        With a period, every ceil(`every`)-th step copies. With the measured rule a step copies when `step_size` is at
        most `residual` times `distance`.

        Raises:
            GameError: the measured rule holds and there are no distances.
        """
        if self.every is not None:
            return jnp.asarray(k % jnp.ceil(self.every).astype(k.dtype) == 0, float)
        if measured is None:
            raise GameError("expected mmd.Refresh to have a period, such as every=40: nothing is measured here")
        return jnp.asarray(measured.step_size <= self.residual * measured.distance, float)


@dataclass(frozen=True, kw_only=True)
class MovingAverage(Magnet):
    """The magnet drifts after the iterate: `log mu <- (1 - h) log mu + h log pi`, normalised.

    A constant h averages over the last 1 / h steps. When payoffs are sampled, such an average stays noisy. With a
    `power` the average covers a growing part of the past, and the noise falls. Then h is (power + 1) / (k + power)
    after step k, once that is less than `rate`, and step k counts in proportion to k^power.

    Source: MMD paper, App. H.5; the falling share is Shamir and Zhang 2013, "Stochastic Gradient Descent for Non-smooth
    Optimization", section 4.

    Attributes:
        rate: share h of the new policy, in (0, 1].
        power: of the weight k^power of step k, >= 0; None for a constant share.
        center: where the magnet starts.
    """

    center: Any = "dilated"
    rate: Number = 0.05
    power: Number = None
    averages: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, Range]] = {"rate": SHARE, "power": AT_LEAST_0}

    def share(self, k: Int[Array, ""], measured: Measured | None = None) -> Float[Array, ""]:
        """The share h, `rate`; with a `power`, (power + 1) / (k + power) once that is smaller."""
        rate = jnp.asarray(self.rate)
        if self.power is None:
            return rate
        power = jnp.asarray(self.power, rate.dtype)
        return jnp.minimum(rate, (power + 1) / (k.astype(rate.dtype) + power))


@dataclass(frozen=True, kw_only=True)
class Halpern(Magnet):
    """The magnet stays and its pull fades: `alpha_k = strength / (eta (k + 1))` after k steps.

    In the dual (log) space this is Halpern's iteration, `theta' = (k+1)/(k+2) T(theta) + 1/(k+2) theta_magnet` at
    strength 1. There eta is the step of the magnetic update. With a step of mirror descent the weights are k/(k+1) and
    1/(k+1), so there the strength is at most 1. The algorithm's own alpha is not used.

    Attributes:
        center: where the magnet stays.
        strength: of the pull, >= 0 and without a unit; 0 switches the magnet off.
    """

    center: Any = "dilated"
    strength: Number = 1.0
    ranges: ClassVar[Mapping[str, Range]] = {"strength": AT_LEAST_0}

    def alpha(
        self, alpha: Float[Array, ""] | float, eta: Float[Array, ""] | float, k: Int[Array, ""] | int
    ) -> Float[Array, ""]:
        """The fading regularization, strength / (eta (k + 1)) in payoff units; the given alpha has no part in it."""
        eta = jnp.asarray(eta)
        return self.strength / (eta * (jnp.asarray(k) + 1).astype(eta.dtype))


def load(name: str, **given: Any) -> Magnet:
    """A magnet from outside this package; one of this package is made by its class.

    Args:
        name: `module:name`, `path.py:name` or the name that an installed package gives, with numbers behind it as in
            `module:name:rate=0.1`; its module is imported.
        given: further arguments of its class, such as `center`.

    Raises:
        GameError: there is none, its code fails, it is no magnet, or a number does not fit.
    """
    return DOOR.made(name, Magnet, **given)

"""The contract between an algorithm and `mmd.solving.solver.solve`, in two forms.

*Traced*: `init`, `step`, `policy`, `diagnostics`. An algorithm is a frozen dataclass whose numbers (eta, alpha, ...)
are pytree leaves, so that one compiled program serves a sweep over them and a sweep can be a `vmap`. Everything that
changes from step to step is in the state that `init` and `step` return; everything worth reporting is computed from the
state by `policy` and `diagnostics` and lives in the trace. All four are traceable. `solve` owns the loop.

*On the host*: `run(game, limits, report)`. A frozen dataclass whose `run` computes with NumPy and SciPy and owns its
loop. At each of its checks it calls `report` with a policy; `report` certifies it, appends the row of the trace, and
answers why to stop, or None to go on.

Both forms have `name`, `keeps_best` and `resolve`, which runs on the host before anything else. What comes out is the
same: a `Solution` whose policy is certified.

Each algorithm is one file in `mmd/algorithms/`, whose name is what `mmd solve --algorithm` accepts and whose attribute
`ALGORITHM` is the class.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.game.game import Game, GameError, Pair
from mmd.game.policy import Policy
from mmd.host import doors
from mmd.measure.certificate import Certificate
from mmd.measure.solution import Status

ITERATES = ("last", "average", "polished", "interior")
LAST, AVERAGE = 0, 1
MOST_ITERATIONS = 2**31 - 1  # of a 32-bit counter
Form = TypeVar("Form", bound="Algorithm | HostAlgorithm")


class Candidate(NamedTuple):
    """The policy that an algorithm would return now.

    Attributes:
        log_policy: [S0], [S1] log behavioural policies of both players.
        nash_conv: NashConv of the policy, in payoff units, as the algorithm measured it; the certificate is computed
            elsewhere.
        value: the row player's payoff under the policy, in payoff units, without the game's offset.
        iterate: index into `ITERATES`.
    """

    log_policy: Pair
    nash_conv: Float[Array, ""]
    value: Float[Array, ""]
    iterate: Int[Array, ""]


def smaller(a: Candidate, b: Candidate) -> Candidate:
    """The candidate with the smaller NashConv; b in a tie, or where a is not a number."""
    return jax.tree.map(lambda x, y: jnp.where(a.nash_conv < b.nash_conv, x, y), a, b)


class Diagnostics(NamedTuple):
    """Further numbers for the trace; NaN where an algorithm has no such thing.

    Attributes:
        regularized_gap: duality gap of the regularized game that the algorithm is solving now, in payoff units.
        average_nash_conv: NashConv of the average iterate, in payoff units.
    """

    regularized_gap: Float[Array, ""]
    average_nash_conv: Float[Array, ""]


@runtime_checkable
class State(Protocol):
    """What the state of every algorithm has; further attributes are the algorithm's own."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]


@runtime_checkable
class Algorithm(Protocol):
    """An iterative method for two-player zero-sum games, in the traced form."""

    name: ClassVar[str]
    keeps_best: ClassVar[bool]  # whether the best policy measured so far is returned, or the newest

    def resolve(self, game: Game) -> "Algorithm":
        """The same algorithm with every default that depends on the game filled in (host code).

        Raises:
            GameError: the algorithm is not defined on this game; the message says why.
        """
        ...

    def init(self, game: Game, log_policy: Pair) -> Any:
        """The state before the first step.

        Args:
            game: the game.
            log_policy: [S0], [S1] log behavioural policies with full support.
        """
        ...

    def step(self, game: Game, state: Any) -> Any:
        """The state after one more iteration, whose gradient evaluations are counted in it."""
        ...

    def policy(self, game: Game, state: Any) -> Candidate:
        """The policy that would be returned now, with its NashConv in payoff units as the algorithm measures it."""
        ...

    def diagnostics(self, game: Game, state: Any) -> Diagnostics:
        """Further numbers for the trace, in payoff units; NaN where the algorithm has no such number."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a run stops, and how often it looks.

    Attributes:
        tolerance: bound on the exploitability, in payoff units; None for `Certificate.default_tolerance`.
        max_iterations: iterations allowed.
        time_limit: seconds of solving allowed; None for no limit.
        check_every: iterations between two checks.
        regularized_tolerance: bound on the regularized gap of a magnet that stays, in payoff units; -inf where no
            magnet stays.
    """

    tolerance: float | None
    max_iterations: int
    time_limit: float | None
    check_every: int
    regularized_tolerance: float = -np.inf

    @classmethod
    def checked(
        cls, game: Game, tolerance: float | None, max_iterations: int, time_limit: float | None, check_every: int
    ) -> "Limits":
        """The limits, after a look at each of them.

        Raises:
            GameError: a limit is out of its range, or the game's payoffs have a range that float64 cannot hold.
        """
        if not np.isfinite(game.description.payoff_range):
            raise GameError(f"{game.name}: expected payoffs whose range float64 can hold: scale them down")
        if tolerance is not None and not tolerance >= 0:
            raise GameError(f"expected a tolerance >= 0, got {tolerance}")
        if not isinstance(max_iterations, Integral) or not 0 <= max_iterations <= MOST_ITERATIONS:
            raise GameError(
                f"expected an integer max_iterations >= 0 and at most {MOST_ITERATIONS}, got {max_iterations}"
            )
        if time_limit is not None and not time_limit > 0:
            raise GameError(f"expected a time limit > 0 seconds, got {time_limit}")
        if check_every < 1:
            raise GameError(f"expected check_every >= 1, got {check_every}")
        asked = None if tolerance is None else float(tolerance)
        return cls(asked, int(max_iterations), time_limit, int(check_every))

    def bound(self, certificate: Certificate) -> float:
        """The exploitability at which policies with this certificate count as an equilibrium."""
        return certificate.default_tolerance if self.tolerance is None else self.tolerance

    def reached(self, certificate: Certificate) -> bool:
        """Whether policies with this certificate count as an equilibrium."""
        return certificate.exploitability <= self.bound(certificate)


@runtime_checkable
class Report(Protocol):
    """What a host algorithm tells `solve` at each of its checks."""

    def __call__(self, policy: Policy, *, iterate: str, iteration: int, gradient_evaluations: int) -> Status | None:
        """Certify the policy, append a row to the trace, and say why to stop; None to go on.

        Once there is a reason, every further report is answered with it and changes nothing.

        Args:
            policy: behavioural policies of both players; `Policy.from_plans` makes them of realisation plans.
            iterate: which iterate it is, one of `ITERATES`.
            iteration: iterations done.
            gradient_evaluations: pairs (A y, A^T x) computed so far.

        Raises:
            GameError: the iterate has no such name, or the policy is not one of the game.
        """
        ...


@runtime_checkable
class HostAlgorithm(Protocol):
    """A method for two-player zero-sum games that computes on the host, in float64, and owns its loop.

    `solve` returns the best policy that the algorithm has reported if `keeps_best`, else the newest. Ctrl-C reaches the
    algorithm as an answer of `report`, or as KeyboardInterrupt, which the algorithm must not catch. There is no
    checkpoint.
    """

    name: ClassVar[str]
    keeps_best: ClassVar[bool]  # whether the best policy reported so far is returned, or the newest

    def resolve(self, game: Game) -> "HostAlgorithm":
        """The same algorithm with every default that depends on the game filled in.

        Raises:
            GameError: the algorithm is not defined on this game; the message says why.
        """
        ...

    def run(self, game: Game, limits: Limits, report: Report) -> None:
        """Compute until `report` gives a reason to stop, or until nothing better can be computed.

        Args:
            game: the game; `mmd.measure.sequence_form` has its matrices.
            limits: what `report` watches; one iteration may be too long to leave `max_iterations` and `time_limit` to
                it alone.
            report: to be called at least once.
        """
        ...


def describe(algorithm: Algorithm | HostAlgorithm) -> dict[str, Any]:
    """Name and hyper-parameters of an algorithm, as plain numbers and strings.

    What `resolve` derives from the game alone, a field with the metadata "derived", is left out.
    """
    names = (f.name for f in fields(cast("Any", algorithm)) if not f.metadata.get("derived"))
    return {"name": algorithm.name, "keeps_best": algorithm.keeps_best} | {
        name: _plain(getattr(algorithm, name)) for name in names
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {"kind": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple | list) or np.ndim(value) > 0:  # of a pair, the arrays may have different lengths
        return "a given policy"
    plain = np.asarray(value).item()
    return plain if isinstance(plain, str | bool | int | float) else str(plain)


# -------------------------------------------------------------------- whether code from outside keeps the contract


def resolved(algorithm: Form, game: Game, dtype: str = "float64") -> Form:
    """`algorithm.resolve(game)`, and of code from outside a look at whether it keeps the contract.

    Its traced functions are traced once more than a run needs, for the shapes of what they return. One number is
    computed, by how much a step raises the iteration: one that does not count itself would go on for ever.

    Args:
        algorithm: of either form.
        game: what it is to solve.
        dtype: of the iteration.

    Raises:
        GameError: the algorithm is not defined on this game. Or code from outside fails, or returns something else than
            the contract says.
    """
    if not _from_outside(algorithm):
        return cast("Form", algorithm.resolve(game))
    found: object = asked(algorithm, "resolve", algorithm.resolve, game)
    is_hosted = isinstance(algorithm, HostAlgorithm)
    if not (isinstance(found, HostAlgorithm) if is_hosted else isinstance(found, Algorithm)):
        raise GameError(f"algorithm {algorithm.name}: expected resolve to return an algorithm, got {found!r}")
    if not is_dataclass(found):
        raise GameError(f"algorithm {algorithm.name}: expected {type(found).__qualname__} to be a frozen dataclass")
    if not is_hosted:
        with jax.enable_x64(dtype == "float64"):
            _check_traced(cast("Algorithm", found), game)
    return cast("Form", found)


def asked(algorithm: Algorithm | HostAlgorithm, what: str, function: Callable[..., Any], *given: Any) -> Any:
    """What a function of an algorithm returns.

    Args:
        algorithm: whose.
        what: its name, for messages.
        function: the function.
        given: its arguments.

    Raises:
        GameError: code from outside raises an error; the sentence has it, with its place.
    """
    if not _from_outside(algorithm):
        return function(*given)
    try:
        return function(*given)
    except GameError:
        raise
    except (Exception, SystemExit) as error:
        raise GameError(f"algorithm {algorithm.name}: {what} raised {doors.error_of(error)}") from error


def _from_outside(algorithm: Any) -> bool:
    """Whether the algorithm is of a class from outside this package, or its magnet or feedback is."""
    inner = (getattr(algorithm, f.name) for f in fields(algorithm)) if is_dataclass(algorithm) else ()
    parts = (algorithm, *(one for one in inner if is_dataclass(one)))
    return not all(map(doors.is_own, parts))


def _check_traced(algorithm: Algorithm, game: Game) -> None:
    """That what the four traced functions return has the shapes of the contract.

    Raises:
        GameError: it has not, or a step does not count itself.
    """
    if jax.tree_util.all_leaves([algorithm]):
        decorator = f"@jax.tree_util.register_dataclass above {type(algorithm).__qualname__}"
        raise GameError(f"algorithm {algorithm.name}: expected {decorator}, its numbers are leaves")
    start = tuple(player.uniform() for player in game.players)

    def shapes(what: str, given: Any) -> Any:
        return asked(algorithm, what, jax.eval_shape, lambda a, g, s: getattr(a, what)(g, s), algorithm, game, given)

    def expect(holds: bool, wanted: str, got: Any) -> None:
        if not holds:
            raise GameError(f"algorithm {algorithm.name}: expected {wanted}, got {got}")

    state = shapes("init", start)
    for name in ("iteration", "gradient_evaluations"):
        there = getattr(state, name, None)
        expect(_is_number(there, jnp.integer), f"init to return a state whose {name} is an integer of shape ()", there)
    after = shapes("step", state)
    expect(jax.tree.structure(after) == jax.tree.structure(state), "step to return a state like init's", after)
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True):
        wanted = f"step to keep state{jax.tree_util.keystr(path)} of {old.dtype} and shape {old.shape}"
        expect((old.shape, old.dtype) == (new.shape, new.dtype), wanted, f"{new.dtype} and shape {new.shape}")
    found = shapes("policy", state)
    expect(isinstance(found, Candidate), "policy to return a mmd.Candidate", found)
    sizes, wanted = [getattr(log, "shape", None) for log in found.log_policy], [log.shape for log in start]
    expect(sizes == wanted, f"policy to return log-policies of shapes {wanted}", sizes)
    for name, kind in (("nash_conv", jnp.floating), ("value", jnp.floating), ("iterate", jnp.integer)):
        there = getattr(found, name)
        expect(_is_number(there, kind), f"policy to return a {name} of {kind.__name__} kind and shape ()", there)
    extra = shapes("diagnostics", state)
    expect(isinstance(extra, Diagnostics), "diagnostics to return mmd.Diagnostics", extra)
    for name, there in extra._asdict().items():
        expect(_is_number(there, jnp.floating), f"diagnostics to return a {name} of floating kind and shape ()", there)
    counted = asked(algorithm, "step", jax.jit(_counted), algorithm, game, start)
    expect(int(counted) >= 1, "step to add 1 to the state's iteration", int(counted))


def _is_number(there: Any, kind: Any) -> bool:
    return getattr(there, "shape", None) == () and jnp.issubdtype(there.dtype, kind)


def _counted(algorithm: Algorithm, game: Game, start: Pair) -> Array:
    """By how much the first step raises the iteration; what else it computes is left out when this is compiled."""
    state = algorithm.init(game, start)
    return algorithm.step(game, state).iteration - state.iteration

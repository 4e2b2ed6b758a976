"""Magnetic Preference Optimization (MPO) of a language model: self-play with a pull to a magnet that moves.

    pi_k+1  ~  argmax_pi  E_{y ~ pi} P(y > pi_k) - alpha KL(pi, mu) - KL(pi, pi_k) / eta        then mu follows pi

Each round samples groups from pi_k, asks for preferences within them, and takes E optimizer steps towards the maximiser
(`llm_bridge.train.objective`). Opponents are the same samples, so one generation serves both players; there is no
reward model, no critic, and no cached policy of the past. With a fixed magnet the last iterate goes to the equilibrium
of the regularized game; the moving one carries it towards a Nash equilibrium of the original preference game, which
needs no scalar reward behind it.

Source: Wang et al., "Magnetic Preference Optimization: Achieving Last-iterate Convergence for Language Model
Alignment", ICLR 2025, sections 3 and 4; MMD by Sokota et al., ICLR 2023.

Deviations from the paper:
 1. The magnet is a moving average of the weights by default, a copy every so many rounds on demand: with samples the
    average ends at a lower gap, and at the lowest where its share falls: eta 0.8 with
    `mmd.MovingAverage(rate=0.05, power=4.0)` in `benchmarks/truth/run.py`. The paper copies.
 2. A magnet that is an average is what is exported: its gap was at or below the policy's in most measured runs. With
    any other magnet, a copy of the past, the last iterate is.
 3. Payoffs are leave-one-out win rates over a whole group instead of one pair's outcome; no baseline is needed.
 4. The divergence from the magnet is the sum over the vocabulary at each prefix, no estimate from the sampled token.
 5. The divergences still to come in a response are no part of a token's payoff, for with a moving magnet they are 0 at
    the end. With `mmd.Fixed` they are not, so set `PolicyGradient(credit=True)` there.
 6. `Regression` is a second form of the same update, with the same gradient at pi_k.
 7. Both orders of each pair are judged.
 8. Numbers are ours (measured on games whose equilibria are known); the paper's could not be obtained.
 9. With `replay` the responses of the last rounds are learned from again, weighed by how likely they have become
    (`llm_bridge.train.replay`). The paper draws anew in every round.
10. With `spread_draws` the responses of a group are spread evenly, in two halves that are compared with each other
    (`llm_bridge.policy.spread`). The paper's draws are independent.

Not proven: a rate for the original game, or convergence with sampling noise and function approximation. There it stays
on a floor that depends on the group size; see `benchmarks/truth/run.py`.
"""

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Key

import mmd
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import SettingError
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.policy import Policy
from llm_bridge.train import replay, weight_average
from llm_bridge.train.arena import Samples
from llm_bridge.train.learning import Learner
from llm_bridge.train.loop import Method
from llm_bridge.train.objective import Judged, Numbers, Objective, PolicyGradient
from llm_bridge.train.train_state import TrainState

EXPORTS = ("last", "magnet", "policy")


@dataclass(frozen=True)
class MPO(Method):
    """Magnetic Preference Optimization; `Method` has the numbers that all methods share.

    Source: Wang et al., ICLR 2025; the module lists what differs from the paper.

    Attributes:
        magnet: how the magnet moves, such as `mmd.MovingAverage(rate=0.025)`. A period T in rounds should have
            T eta alpha of about 1.6, a rate h eta alpha / h of about 1.6. With a magnet that moves faster, the iterate
            cycles or collapses.
        estimator: `PolicyGradient()` or `Regression()`.
        replay: how many earlier rounds' responses each round learns from again, beside its own; their verdicts are used
            again too. A step then costs so many times more, a round no more samples and comparisons. 0 for none.
        spread_draws: whether the responses to a prompt are spread evenly, in two halves of which each response meets
            the other one (`llm_bridge.policy.spread`). Gradients keep their mean and lose variance, for half the
            comparisons.
        exports: which weights `export` returns, "last" (the last iterate) or "magnet". None for the magnet where it is
            an average, and for the last iterate elsewhere. "policy" is an older name of "last".
    """

    _: KW_ONLY
    magnet: Any = field(default_factory=lambda: mmd.MovingAverage(rate=0.025))
    estimator: Objective = field(default_factory=PolicyGradient)
    replay: int = 0
    spread_draws: bool = False
    exports: Literal["last", "magnet", "policy"] | None = None

    leaves: ClassVar[tuple[str, ...]] = (*Method.leaves, "magnet")
    draws_once: ClassVar[bool] = False  # a class whose own `play` draws once, as `Method.play` does, says so

    def check(self, policy: Policy) -> None:
        """That the settings are in their ranges and fit the policy, and that the magnet can be a set of its weights.

        Raises:
            BridgeError: they are not, or it cannot: a magnet that measures distances or has a centre of its own.
        """
        super().check(policy)
        weight_average.check(self.magnet)

    def check_settings(self) -> None:
        """That the settings are in their ranges and fit each other, the estimator and `exports` among them.

        Raises:
            SettingError: they are not; or `exports` is "magnet" and the magnet stays at the start.
        """
        super().check_settings()
        if not isinstance(self.estimator, Objective):
            raise SettingError(f"expected {{estimator}} to be one such as PolicyGradient(), got {self.estimator!r}")
        if self.exports not in (None, *EXPORTS):
            raise SettingError(f"expected {{exports}} to be 'last' or 'magnet', got {self.exports!r}")
        if self.replay and not self._draws_once:
            twice = f"{type(self).__name__} draws twice in a round"
            raise SettingError(f"{twice}, so expected {{replay}} to be 0, got {self.replay}")
        if self.replay and self.engine is not None:
            why = "an engine's log-probabilities are not learned from, and replay weighs by those of who has drawn"
            raise SettingError(f"{why}, so expected {{replay}} to be 0 with an engine, got {self.replay}")
        if self.spread_draws:
            self._check_spread()
        if self.exports == "magnet" and isinstance(self.magnet, mmd.Magnet) and not self.magnet.travels:
            raise SettingError(f"expected {{exports}} to be 'last', the magnet stays at the start: {self.magnet!r}")

    def _check_spread(self) -> None:
        """That nothing needs independent draws within a half of a group."""
        if not self._draws_once:
            why = f"{type(self).__name__} draws twice in a round"
        elif not self.objective().by_row:
            why = f"{self.estimator!r} learns from all pairs of a group as independent draws"
        elif self.engine is not None:
            why = "an engine draws each answer for itself"
        elif self.group_size % 2:
            raise SettingError(f"expected {{group_size}} to be even with {{spread_draws}}, got {self.group_size}")
        else:
            return
        raise SettingError(f"{why}, so expected {{spread_draws}} to be False")

    @property
    def _draws_once(self) -> bool:
        """Whether a round draws once, so that rounds can be remembered and groups spread."""
        return self.draws_once or type(self).play is Method.play

    def objective(self) -> Objective:
        """The estimator."""
        return self.estimator

    def numbers(self, state: TrainState) -> Numbers:
        """Eta, and alpha as the magnet sets it in this round: `mmd.Magnet.alpha` after `age` rounds."""
        eta, alpha = super().numbers(state)
        return Numbers(eta, self.magnet.alpha(alpha, eta, state.age))

    @property
    def rounds_at_once(self) -> int:
        """How many rounds' responses a round learns from, its own among them."""
        return 1 + self.replay

    @property
    def spreads(self) -> bool:
        """`spread_draws`."""
        return self.spread_draws

    def init(self, policy: Policy, key: Key[Array, ""]) -> TrainState:
        """The state before the first round, with a memory of earlier rounds where `replay` asks for one.

        Raises:
            BridgeError: a setting is out of its range, or does not fit the policy.
        """
        state = super().init(policy, key)
        return replace(state, memory=replay.nothing(self.replay, policy.mesh)) if self.replay else state

    def learner(self, state: TrainState) -> Learner:
        """What `learn` compiles; with `replay`, shares are weights of draws."""
        return replace(super().learner(state), replays=self.replay > 0)

    def with_earlier(
        self, state: TrainState, samples: Samples, preference: Array
    ) -> tuple[TrainState, Samples, Judged, dict[str, Array]]:
        """A round's responses and those of the last `replay` rounds; see `llm_bridge.train.replay`.

        Raises:
            BridgeError: rounds differ in size; or the state has no such memory, or the responses are no draws.
        """
        if not self.replay:
            return super().with_earlier(state, samples, preference)
        if state.memory is None or len(state.memory.tokens) != self.replay or samples.share is not None:
            raise BridgeError(f"replay={self.replay} needs draws, and a state that began with replay={self.replay}")
        longest, n_parts = bucket(self.max_new_tokens, 1), self.n_parts(len(preference) * self.rounds_at_once)
        recalled = replay.recalled(self.source(state), state.memory, samples, preference, longest, n_parts)
        return replace(state, memory=recalled[0]), *recalled[1:]

    def settle(self, state: TrainState) -> TrainState:
        """End the round: the magnet moves towards the new policy, and the round is counted."""
        return super().settle(replace(state, magnet=weight_average.moved(self.magnet, state)))

    @property
    def magnet_is_chosen(self) -> bool:
        """Whether `exports` asks for the magnet by name."""
        return self.exports == "magnet"

    @property
    def exports_magnet(self) -> bool:
        """Whether the magnet is the run's result, and not the last iterate."""
        return self.magnet.averages if self.exports is None else self.magnet_is_chosen

    def exported(self, state: TrainState) -> dict[str, Array]:
        """The trained weights that are the run's result: the magnet where `exports_magnet`, else the last iterate."""
        return state.magnet if self.exports_magnet else state.weights

    def has_result(self, rounds: int) -> bool:
        """Whether the result after so many rounds was trained: not where a chosen magnet has not moved yet."""
        return not self.magnet_is_chosen or weight_average.leaves_the_start(self.magnet, rounds)

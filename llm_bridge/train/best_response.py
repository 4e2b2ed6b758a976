"""A best response: a policy is trained against another one that stays as it is.

    pi_k+1  ~  argmax_pi  E_{y ~ pi} P(y > opponent) - KL(pi, pi_k) / eta

The loop, the sampler and the judge are those of every method (`llm_bridge.train.loop`); what differs is that responses
meet those of a fixed policy instead of each other, and that nothing pulls back to where the training began: it has no
magnet. What it reaches wins some share of its comparisons with the opponent, and no policy's exploitability is smaller
than the share of any opponent less 1/2. How far below the truth that lower bound stays depends on how good a response
the training finds; see `llm_bridge.measure.exploit`.

Source: an approximate best response by policy gradient, as Timbers et al. ("Approximate exploitability: learning a best
response", IJCAI 2022) measure policies of games that are too large to enumerate; here the game is a preference game, of
one step for each player, and the step is mirror descent's (`mmd.update.sampled_objective` without a magnet).

Two lines differ from the other methods:
 1. Opponents are drawn anew in every round, so nothing can be learned by heart of some of their responses.
 2. The mean over the group, of the other responses, is taken off each payoff. Within a group that meets itself payoffs
    sum to 0 without it; here the win rate grows, and would be noise in every gradient.
"""

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float

from llm_bridge.model.ranges import SettingError, require
from llm_bridge.policy.policy import Policy
from llm_bridge.train.arena import Arena, Source
from llm_bridge.train.loop import Method
from llm_bridge.train.objective import Judged, Objective, PolicyGradient, payoffs
from llm_bridge.train.schedule import usual_rate
from llm_bridge.train.train_state import TrainState

OPPONENTS = 8


@dataclass(frozen=True)
class WithoutMagnet(PolicyGradient):
    """`PolicyGradient` where nothing is pulled to a magnet; alpha has no part in it."""

    magnet: ClassVar[str | None] = None


@dataclass(frozen=True)
class BestResponse(Method):
    """Training against a fixed policy; exports the last iterate.

    Attributes:
        opponent: the policy that stays, or a `Source` of responses. It reads the same token ids as what is trained.
        opponents: how many of its responses each response meets; they are drawn anew in every round. None for 8.
        eta: step size, as in `Method`. None for the most tokens of a response, so that a token may move by about a nat
            for each unit of win rate.
        learning_rate: of Adam; None for 1 / sqrt(number of trained weights), at most 1e-3, so that a step has about the
            same length whatever is trained.
    """

    _: KW_ONLY
    opponent: Any = None
    opponents: int | None = None
    eta: Any = None
    learning_rate: Any = None

    has_magnet: ClassVar[bool] = False
    unused: ClassVar[tuple[str, ...]] = ("alpha",)
    ends_pure: ClassVar[bool] = True

    def settled(self, policy: Policy) -> "BestResponse":
        """The same with the numbers that are not given, for what is trained of a policy."""
        rate = usual_rate(policy.n_trained) if self.learning_rate is None else self.learning_rate
        return replace(self, learning_rate=rate, eta=float(self.max_new_tokens) if self.eta is None else self.eta)

    def objective(self) -> Objective:
        """The magnetic objective without a magnet: mirror descent."""
        return WithoutMagnet()

    def check_settings(self) -> None:
        """That the settings are in their ranges, and that there is an opponent.

        Raises:
            SettingError: they are not, or there is none.
        """
        require("opponents", self.opponents, optional=True)
        Method.check_settings(replace(self, opponents=None))  # which are not those of a group here
        if not isinstance(self.opponent, Policy | Source):
            raise SettingError(f"expected {{opponent}} to be a policy, got {type(self.opponent).__name__}")

    def check(self, policy: Policy) -> None:
        """That the settings are in their ranges, and that the opponent reads what the policy reads.

        Raises:
            BridgeError: they are not, or it has another vocabulary or lies on another mesh.
        """
        super().check(policy)
        theirs = self._opponent().decoder
        if theirs.architecture.vocabulary != policy.architecture.vocabulary:
            ours, its = policy.architecture.vocabulary, theirs.architecture.vocabulary
            raise SettingError(f"expected {{opponent}} to have the vocabulary of {ours} tokens, got {its}")
        if theirs.mesh != policy.mesh:
            raise SettingError("expected {opponent} on the policy's mesh; load it with mesh=policy.mesh")
        if isinstance(self.opponent, Policy) and {*self.opponent.origin.stop_tokens} != {*policy.origin.stop_tokens}:
            ours, its = sorted(policy.origin.stop_tokens), sorted(self.opponent.origin.stop_tokens)
            raise SettingError(f"expected {{opponent}} to end responses with the tokens {ours}, got {its}")

    def play(self, state: TrainState, arena: Arena) -> tuple[TrainState, dict[str, Array]]:
        """A round: both answer, and what is trained learns from meeting the other.

        Returns:
            The state, and the metrics of `Learner.steps` with `win_rate`, that of this round's responses.
        """
        keys = jax.random.split(state.round_key())
        ours = arena.draw(self.source(state), self.group_size, keys[0])
        theirs = arena.draw(self._opponent(), self.opponents or OPPONENTS, keys[1])
        preference = arena.compare(ours, theirs)
        payoff = payoffs(preference, theirs.share, own=False)
        state, metrics = self.learn(state, ours, Judged(centred(payoff, ours.share), preference))
        return self.settle(state), metrics | {"win_rate": 0.5 + (payoff * _weights(payoff, ours.share)).sum(1).mean()}

    def _opponent(self) -> Source:
        found = self.opponent
        return Source(found.decoder, found.arrays()) if isinstance(found, Policy) else found


def centred(payoff: Float[Array, "N G"], share: Float[Array, "N G"] | None = None) -> Float[Array, "N G"]:
    """Payoffs less the mean over the others of their group; over all of it where all responses are enumerated.

    The others do not depend on a response, so what is taken off adds no gradient on average.
    """
    mean = (payoff * _weights(payoff, share)).sum(axis=1, keepdims=True)
    n = payoff.shape[1]
    return (payoff - mean) * (1 if share is not None or n == 1 else n / (n - 1))


def _weights(payoff: Float[Array, "N G"], share: Float[Array, "N G"] | None) -> Float[Array, "N G"] | float:
    return 1 / payoff.shape[1] if share is None else share

"""Nash-MD: policy gradient against a mixture of the policy with the reference.

    gradient of E_{y ~ pi} P(y > pi') - alpha KL(pi, ref),    pi'  ~  pi^(1 - share) ref^share  token by token

Source: Munos et al., "Nash Learning from Human Feedback", ICML 2024, sections 5 and 7 (Nash-MD-PG). The last iterate of
the tabular method goes to the equilibrium of the *regularized* game at rate 1 / T (Theorem 1).

Half of the group is the policy's and is trained on, half is the mixture's. Deviations: each of the policy's responses
meets all of the mixture's; the exact divergence over the vocabulary.
"""

from dataclasses import KW_ONLY, dataclass

import jax
from jaxtyping import Array

from llm_bridge.model.ranges import SettingError
from llm_bridge.policy.mixture import Mixture
from llm_bridge.train.arena import Arena, Source
from llm_bridge.train.baselines.self_play import SelfPlay
from llm_bridge.train.objective import Judged, payoffs
from llm_bridge.train.train_state import TrainState


@dataclass(frozen=True)
class NashMD(SelfPlay):
    """Nash-MD-PG; exports the last iterate.

    Attributes:
        share: of the reference in the opponent, in [0, 1]; 0 is self-play, 1 plays against the reference.
    """

    _: KW_ONLY
    share: float = 0.125

    def check_settings(self) -> None:
        """That the settings are in their ranges, and that the group has two equal halves, one for each sampler.

        Raises:
            SettingError: they are not, or `group_size` is odd.
        """
        super().check_settings()
        if self.group_size % 2:
            raise SettingError(f"expected an even {{group_size}}, half of it for each sampler, got {self.group_size}")

    def play(self, state: TrainState, arena: Arena) -> tuple[TrainState, dict[str, Array]]:
        """Two samplers; the policy's responses learn from meeting the mixture's."""
        keys, n = jax.random.split(state.round_key()), self.group_size // 2
        both = (state.whole(state.weights), state.whole(state.magnet))
        ours = arena.draw(self.source(state), n, keys[0])
        theirs = arena.draw(Source(Mixture(state.frame.decoder, self.share), both), n, keys[1])
        preference = arena.compare(ours, theirs)
        judged = Judged(payoffs(preference, theirs.share, own=False), preference)
        state, metrics = self.learn(state, ours, judged)
        return self.settle(state), metrics


METHOD = NashMD

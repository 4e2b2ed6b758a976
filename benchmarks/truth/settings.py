"""What the truth test runs: at most four settings a method, and what was tried against the noise."""

from typing import Any

import mmd
from benchmarks.truth.methods import Optimistic
from llm_bridge.train.baselines.egpo import EGPO
from llm_bridge.train.baselines.inpo import INPO
from llm_bridge.train.baselines.iterative_dpo import IterativeDPO
from llm_bridge.train.baselines.nash_md import NashMD
from llm_bridge.train.baselines.self_play import SelfPlay
from llm_bridge.train.baselines.sppo import SPPO
from llm_bridge.train.loop import Method
from llm_bridge.train.mpo import MPO
from llm_bridge.train.objective import Enumerated, Regression

SAMPLED: dict[str, Any] = {"group_size": 64, "epochs": 4, "learning_rate": 2e-3, "eps": 1e-3, "watch_start": False}
EXACT: dict[str, Any] = {"epochs": 8, "learning_rate": 3e-3, "eps": 1e-8, "watch_start": False}
TUNING = ("cycle/0", "rand8/0")
FROZEN = ("cycle/1", "rand8/1", "cycle/2", "rand8/2", "cycle/3", "rand8/3", "mixed8/1", "mixed8/2", "mixed8/3", "mix/0")
FIXED_MAGNET = ("inpo", "nash-md", "egpo", "self-play")
COMPARED = ("mpo", *FIXED_MAGNET)


def _but(**changes: Any) -> dict[str, Any]:
    return SAMPLED | changes


def _average(rate: float, power: float | None = None) -> Any:
    return mmd.MovingAverage(rate=rate, power=power)


def _replayed(eta: float, power: float | None, replay: int = 15, alpha: float = 0.1, **changes: Any) -> MPO:
    """MPO with replay and a magnet of rate eta alpha / 1.6; all groups of a prompt go through the model at once."""
    magnet = _average(round(eta * alpha / 1.6, 6), power)
    one = {"eta": eta, "alpha": alpha, "magnet": magnet, "replay": replay, "prompts_at_a_time": replay + 1}
    return MPO(**_but(**one | {"prompts_per_round": replay + 1} | changes))


def _spread(eta: float, power: float | None, learning_rate: float) -> MPO:
    """MPO whose draws are spread evenly, with a magnet of rate eta alpha / 1.6."""
    magnet = _average(round(eta * 0.1 / 1.6, 6), power)
    return MPO(eta=eta, alpha=0.1, magnet=magnet, spread_draws=True, **_but(learning_rate=learning_rate))


METHODS: dict[str, dict[str, list[Method]]] = {
    "exact": {
        "mpo gradient": [
            MPO(estimator=Enumerated(), eta=eta, alpha=0.1, magnet=mmd.Refresh(every=10), **EXACT) for eta in (1.6, 3.2)
        ],
        "mpo regression": [
            MPO(estimator=Regression(), eta=eta, alpha=0.1, magnet=mmd.Refresh(every=10), **EXACT) for eta in (1.6, 3.2)
        ],
    },
    "sampled": {
        "mpo": [
            MPO(eta=0.4, alpha=0.1, magnet=_average(0.025), **SAMPLED),
            MPO(eta=0.8, alpha=0.1, magnet=_average(0.05), **SAMPLED),
            MPO(eta=0.8, alpha=0.1, magnet=_average(0.05, 4.0), **SAMPLED),
            MPO(eta=0.4, alpha=0.1, magnet=mmd.Refresh(every=40), **SAMPLED),
        ],
        "inpo": [
            INPO(eta=0.4, alpha=0.05, **SAMPLED),
            INPO(eta=0.4, alpha=0.02, **SAMPLED),
            INPO(eta=0.8, alpha=0.02, **SAMPLED),
            INPO(eta=0.4, alpha=0.01, **SAMPLED),
        ],
        "egpo": [
            EGPO(eta=0.4, alpha=0.05, **SAMPLED),
            EGPO(eta=0.4, alpha=0.02, **SAMPLED),
            EGPO(eta=0.8, alpha=0.02, **SAMPLED),
            EGPO(eta=0.4, alpha=0.01, **SAMPLED),
        ],
        "self-play": [
            SelfPlay(alpha=0.05, **_but(epochs=1)),
            SelfPlay(alpha=0.02, **_but(epochs=1)),
            SelfPlay(alpha=0.02, **_but(epochs=1, learning_rate=5e-3)),
            SelfPlay(alpha=0.05, **_but(epochs=1, learning_rate=5e-3)),
        ],
        "nash-md": [
            NashMD(alpha=0.05, **_but(epochs=1)),
            NashMD(alpha=0.02, **_but(epochs=1)),
            NashMD(alpha=0.02, **_but(epochs=1, learning_rate=5e-3)),
            NashMD(alpha=0.05, **_but(epochs=1, learning_rate=5e-3)),
        ],
        "mpo regression": [
            MPO(eta=0.4, alpha=0.1, magnet=_average(0.025), estimator=Regression(), **SAMPLED),
            MPO(eta=0.8, alpha=0.1, magnet=_average(0.05), estimator=Regression(), **SAMPLED),
        ],
        "mpo replay": [
            _replayed(1.6, 2.0),
            _replayed(1.6, 2.0, learning_rate=4e-3),
            _replayed(3.2, 2.0, learning_rate=4e-3),
            _replayed(1.6, 2.0, learning_rate=4e-3, warmup_rounds=16),
        ],
        "mpo spread, tuned": [
            _spread(1.6, 4.0, 4e-3),
            _spread(1.6, 8.0, 4e-3),
            _spread(1.6, None, 4e-3),
            _spread(0.8, 4.0, 2e-3),
        ],
        "mpo spread": [_spread(0.8, 4.0, 2e-3)],  # all else is what is frozen for mpo
        "optimistic": [Optimistic(eta=eta, **SAMPLED) for eta in (0.4, 0.1)],
        "sppo": [SPPO(eta=eta, **SAMPLED) for eta in (0.4, 0.1)],
        "iterative dpo": [IterativeDPO(eta=eta, **SAMPLED) for eta in (0.4, 0.1)],
    },
}


def _grouped(group_size: int, eta: float = 0.4, rate: float = 0.025) -> MPO:
    return MPO(eta=eta, alpha=0.1, magnet=_average(rate), **_but(group_size=group_size))


def _magnet(eta: float, rate: float, power: float | None = None) -> MPO:
    return MPO(eta=eta, alpha=0.1, magnet=_average(rate, power), **SAMPLED)


Stages = tuple[tuple[Method, int], ...]  # methods one after another, and how many rounds each
AGAINST_NOISE: dict[str, Stages] = {
    "replay of 15 rounds, eta 3.2, power 2": ((_replayed(3.2, 2.0), 500),),
    "replay of 15 rounds, eta 1.6, power 1": ((_replayed(1.6, 1.0), 500),),
    "replay of 7 rounds, eta 1.6, power 2": ((_replayed(1.6, 2.0, 7), 500),),
    "replay of 7 rounds of 128, eta 3.2, power 2": ((_replayed(3.2, 2.0, 7, group_size=128, epochs=8), 250),),
    "replay of 7 rounds of 128, eta 1.6, power 2": ((_replayed(1.6, 2.0, 7, group_size=128, epochs=8), 250),),
    "replay of 7 rounds of 128, eta 3.2, alpha 0.05, power 2": (
        (_replayed(3.2, 2.0, 7, 0.05, group_size=128, epochs=8), 250),
    ),
    "replay of 7 rounds of 128, eta 3.2, alpha 0.05, power 1": (
        (_replayed(3.2, 1.0, 7, 0.05, group_size=128, epochs=8), 250),
    ),
    "replay of 15 rounds, eta 1.6, alpha 0.05, power 2": ((_replayed(1.6, 2.0, 15, 0.05), 500),),
    "replay of 15 rounds, eta 3.2, alpha 0.05, power 1": ((_replayed(3.2, 1.0, 15, 0.05), 500),),
    "replay of 15 rounds, eta 1.6, alpha 0.2, power 2": ((_replayed(1.6, 2.0, 15, 0.2), 500),),
    "replay of 15 rounds, eta 1.6, power 2, rate 8e-3": ((_replayed(1.6, 2.0, learning_rate=8e-3), 500),),
    "replay of 15 rounds, eta 1.6, power 4, rate 4e-3": ((_replayed(1.6, 4.0, learning_rate=4e-3), 500),),
    "replay of 15 rounds, eta 1.6, power 2, rate 4e-3, 8 steps": (
        (_replayed(1.6, 2.0, learning_rate=4e-3, epochs=8), 500),
    ),
    "replay of 31 rounds, eta 1.6, power 2, rate 4e-3": ((_replayed(1.6, 2.0, 31, learning_rate=4e-3), 500),),
    "replay of 3 rounds of 256, eta 3.2, power 2": ((_replayed(3.2, 2.0, 3, group_size=256, epochs=16), 120),),
    "learning rate 1e-3": ((MPO(eta=0.4, magnet=_average(0.025), **_but(learning_rate=1e-3)), 500),),
    "learning rate 4e-3": ((MPO(eta=0.4, magnet=_average(0.025), **_but(learning_rate=4e-3)), 500),),
    "magnet of rate 0.0125": ((MPO(eta=0.4, magnet=_average(0.0125), **SAMPLED), 500),),
    "eta 0.2, magnet of rate 0.02": ((_magnet(0.2, 0.02), 500),),
    "eta 0.8, magnet of rate 0.05, power 2": ((_magnet(0.8, 0.05, 2.0), 500),),
    "eta 0.8, magnet of rate 0.05, power 3": ((_magnet(0.8, 0.05, 3.0), 500),),
    "eta 1.2, magnet of rate 0.075, power 4": ((_magnet(1.2, 0.075, 4.0), 500),),
    "eta 0.4, magnet of rate 0.05, power 4": ((_magnet(0.4, 0.05, 4.0), 500),),
    "eta 0.8, 0.4, 0.2, magnets of rate 0.05, 0.025, 0.0125": (
        (_magnet(0.8, 0.05), 250),
        (_magnet(0.4, 0.025), 130),
        (_magnet(0.2, 0.0125), 120),
    ),
    "groups of 128, 250 rounds": ((_grouped(128, 0.8, 0.05), 250),),
    "groups of 256, 120 rounds": ((_grouped(256, 1.6, 0.1), 120),),
    "groups 32, 64, 128, 256": (
        (_grouped(32), 250),
        (_grouped(64), 120),
        (_grouped(128), 60),
        (_grouped(256), 30),
    ),
}

"""Two processes of four devices train as one device, and what one of them is told reaches both."""

import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.run.processes import SharedJudge, SharedTermination
from llm_bridge.run.termination import Terminated
from llm_bridge.run.training_log import rows
from tests.llm.games import PROMPTS, SIZES, SumJudge, policy
from tests.llm.test_mpo_cli import JUDGE, model
from tests.processes import JOIN, run_two

assert model  # a fixture
KEY = jax.random.key(7)
TRAINING = SIZES | {"epochs": 2, "learning_rate": 1e-3, "decay_rounds": 10, "watch_start": False}
SHOWN = ("loss", "grad_norm", "entropy")

WORKER = """
import os
import numpy as np
import llm_bridge as bridge
from llm_bridge.run import training_log
from llm_bridge.command.cli import main
from llm_bridge.run.processes import SharedJudge
from tests.llm.games import PROMPTS, SumJudge, policy
from tests.llm.test_processes import KEY, SHOWN, TRAINING

model, folder = sys.argv[3:]
os.chdir(folder)
first = process == 0
mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"))
assert mesh.is_multi_process and len(jax.local_devices()) == 4
judge = SumJudge() if first else None
result = bridge.MPO(SharedJudge(judge), **TRAINING).fit(policy(mesh), PROMPTS, steps=10, key=KEY)
assert not first or judge.asked > 0
np.save(f"losses-{process}.npy", [[metrics[name] for name in SHOWN] for metrics in result.history])


def train(out, *more):
    words = f"train --quiet --model-name-or-path {model} --dataset-name prompts.jsonl --judge judges:shorter"
    words += " --max-steps 4 --mesh data=2,fsdp=4"
    sizes = "--num-generations 4 --prompts-per-round 2 --max-new-tokens 2 --num-iterations 2 --learning-rate 1e-3"
    return main([*words.split(), "--output-dir", out, *sizes.split(), *more])


assert train("alone") == 0
written = training_log.TrainingLog.write


def told(log, number, metrics):
    written(log, number, metrics)
    if number == 2 and not first:
        os.kill(os.getpid(), 15)


training_log.TrainingLog.write = told
assert train("told") == 143
training_log.TrainingLog.write = written
assert sorted(os.listdir("told/checkpoints")) == ["step_00000002"]
assert train("told", "--resume") == 0
assert train("failing", "--judge", "judges:broken") == 2
"""


def test_two_processes_train_as_one_device_and_stop_as_one(model: Path, tmp_path: Path) -> None:
    """20 optimizer steps agree to 1e-5; a run whose second process is told to stop goes on bit for bit (R6)."""
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "{word}"}}\n' for word in ("a", "c", "ab", "b")))
    (tmp_path / "judges.py").write_text(f"{JUDGE}\ndef broken(prompts, a, b):\n    return np.zeros(1)\n")
    alone = bridge.MPO(SumJudge(), **TRAINING).fit(policy(), PROMPTS, steps=10, key=KEY)
    done = run_two(JOIN + WORKER, model, tmp_path)
    assert [status for status, _ in done] == [0, 0], "\n".join(said for _, said in done)
    expected = [[metrics[name] for name in SHOWN] for metrics in alone.history]
    losses = [np.load(tmp_path / f"losses-{process}.npy") for process in range(2)]
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(losses[0], expected, rtol=0, atol=1e-5)
    assert rows(tmp_path / "told/metrics.jsonl", times=False) == rows(tmp_path / "alone/metrics.jsonl", times=False)
    assert len(rows(tmp_path / "alone/metrics.jsonl")) == 4
    ours, theirs = (bridge.load(tmp_path / name / "policy").arrays() for name in ("told", "alone"))
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])
    assert re.search(r"expected \d+ answers, got an array of shape", done[0][1])
    assert "the judge of the first process has failed" in done[1][1]


DYING = """
import os
import jax.numpy as jnp
from jax.experimental import multihost_utils
from llm_bridge.run.processes import connected
with connected():
    for number in range(100):
        if process == 1 and number == 3:
            os._exit(9)
        multihost_utils.sync_global_devices(str(number))
"""


def test_a_process_that_dies_takes_the_other_with_it() -> None:
    """R17: nobody waits for ever."""
    beating = JOIN.replace("initialization_timeout=300", "initialization_timeout=300, heartbeat_timeout_seconds=10")
    (status, said), (died, _) = run_two(beating + DYING, seconds=60)
    assert died == 9
    assert status != 0
    assert re.search(r"[Tt]ask[: ]1\b", said), said
    assert "BridgeError: the connection to another process is lost (" in said, said


# -------------------------------------------------------------------- one process


def test_alone_a_shared_judge_is_the_judge() -> None:
    judge = SumJudge()
    shared = SharedJudge(judge)
    assert shared.symmetric
    a, b = [(1,), (2,), (0, 1)], [(2,), (1,), (0,)]
    np.testing.assert_array_equal(shared([(0,)] * 3, a, b), judge([(0,)] * 3, a, b))

    def stopped(*_: object) -> np.ndarray:
        raise Terminated(signal.SIGTERM)

    with pytest.raises(Terminated):
        SharedJudge(stopped)(["x"], ["a"], ["b"])
    with pytest.raises(bridge.BridgeError, match="expected 1 answers, got an array of shape"):
        SharedJudge(lambda *_: np.zeros(2))(["x"], ["a"], ["b"])
    SharedTermination().check()

"""How much memory a run will need, counted from shapes before anything is allocated.

Weights, moments and what a checkpoint holds are exact. On accelerators the rest is what `mpo plan` says, by the same
functions (`llm_bridge.plan.estimate`).

On a CPU activations and logits are those that the backward pass keeps, counted from the decoder's parts. XLA's buffers
are not all that is resident. The process itself is there, whose memory is looked up, and what compiling leaves behind.
Products pack their operands, several at a time, and the head's are copies of the whole table. Half precision is kept
and widened besides. What an update has freed stays with the process, so that what is copied to be written comes on top
of it. How often each of these arrays is there was found from the peak of processes
(`benchmarks/device/training_memory.py`): from fifteen kinds of training of small models and two of a real one. There
the sum is for a first run, which compiles, and shows at its end what was learned.
"""

import math
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from llm_bridge.model import sharding
from llm_bridge.model.architecture import Architecture, BridgeError
from llm_bridge.model.attention import chosen
from llm_bridge.plan.estimate import Bytes, passing, reading
from llm_bridge.plan.work import Axes, LocalJudge, Work
from llm_bridge.policy.policy import Policy, own_decoder
from llm_bridge.policy.scoring import LOGITS_AT_A_TIME, chunk_length
from llm_bridge.run.run_state import WRITTEN_AT_ONCE

FLOAT = 4
GIB, MIB = 2**30, 2**20


class Arrays(NamedTuple):
    """How many arrays of a kind are there at once.

    Attributes:
        scores: of attention, that each layer keeps.
        logits: of all tokens, or of a chunk, which the backward pass makes again.
        tables: of the head's size, copies and gradients.
        gradients: of the trained weights, with what an update makes of them in passing.
    """

    scores: int
    logits: int
    tables: int
    gradients: int


ON_CPU = Arrays(scores=8, logits=4, tables=16, gradients=1)
ADAPTED_ON_CPU = ON_CPU._replace(tables=9)  # the head is not trained
COMPILED = 640 * MIB  # what stays of compiling what a run calls: code, gaps between arrays, libraries


@dataclass(frozen=True)
class Rows:
    """What goes through the model at a time.

    Attributes:
        length: T, most tokens of a prompt with its answer.
        learned: rows whose gradient is computed at once.
        generated: rows that are drawn at once.
        answers: last tokens of a row that logits are made for; None for all but the first.
        group: so many rows have their prompt in common, which goes through the model once for all of them.
        rounds: whose rows are learned from together; what is computed once is kept for all of them.
    """

    length: int
    learned: int
    generated: int
    answers: int | None = None
    group: int = 1
    rounds: int = 1


@dataclass(frozen=True)
class Budget:
    """Bytes on each device, by what they are for.

    Attributes:
        parts: what will be held at the worst moment.
        free: what the device has, the given policy's weights not counted as used; None where it does not say.
        device: what it is.
    """

    parts: Mapping[str, int]
    free: int | None
    device: str

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self.parts.values())

    def lines(self) -> list[str]:
        """For people to read."""
        free = "unknown" if self.free is None else f"{self.free / GIB:.2f}"
        listed = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.parts.items() if size)
        return [f"memory on {self.device}, GiB: {self.total / GIB:.2f} needed ({listed}), {free} free"]

    @property
    def fits(self) -> bool:
        """Whether so much is free, as far as is known."""
        return self.free is None or self.total <= self.free

    def check(self, remedies: Sequence[str]) -> None:
        """That it fits.

        Args:
            remedies: what can be typed to need less, at least one; more accelerators help besides.

        Raises:
            BridgeError: it does not; the message says what to change.
        """
        if self.free is None or self.fits:
            return
        largest = max(self.parts, key=lambda name: self.parts[name])
        *others, last = remedies
        tried = f"{', '.join(others)} or {last}" if others else last
        raise BridgeError(
            f"the run needs about {self.total / GIB:.2f} GiB on {self.device} and {self.free / GIB:.2f} GiB are "
            f"free; the largest part is {largest}, {self.parts[largest] / GIB:.2f} GiB: try {tried}"
        )


def training(
    policy: Policy,
    rows: Rows,
    copies: int,
    moments: float = 2,
    *,
    kept: bool = True,
    judges: tuple[LocalJudge, ...] = (),
) -> Budget:
    """The budget of training a policy.

    Args:
        policy: which is trained; its adapters alone if it has any.
        rows: how long rows are, and how many are learned from and drawn at once.
        copies: of the trained weights in float32 that are kept: policy, magnet, initial ones.
        moments: as many of the optimizer's; half a copy for one in half precision.
        kept: whether the given policy stays; where not, it is gone before there are gradients, which are no smaller.
        judges: local ones on the policy's devices, whose weights are there already.
    """
    own_decoder(policy, "has no estimate of memory")
    arrays, mesh = policy.arrays(), policy.mesh
    adapters = {name: array for name, array in arrays.items() if ".lora_" in name}
    trained = sum(_share(array) * FLOAT for array in (adapters or arrays).values())
    given = sum(_share(array) * array.dtype.itemsize for array in arrays.values())
    state = {"given policy": given * kept, "trained weights": copies * trained, "moments": int(moments * trained)}
    free, device = available(mesh)
    if not _on_cpu(mesh):
        found = Bytes(
            {name: float(n) for name, n in state.items()},
            *passing(policy.architecture, axes_of(mesh), work_of(policy, rows, copies, judges), trained // FLOAT),
        )
        parts = {name: round(size) for name, size in found.worst().items()}
        return Budget(parts, None if free is None else free + given, device)
    judged = reading(judges, axes_of(mesh), work_of(policy, rows, copies))
    busiest = _busiest_on_cpu(policy, rows, trained, given, {name: round(n) for name, n in judged.items()})
    around = _process(given, int((copies + moments) * trained), policy)
    given_back = given + around.get("runtime", 0)
    return Budget({**state, **busiest, **around}, None if free is None else free + given_back, device)


def _on_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"


def axes_of(mesh: Mesh) -> Axes:
    """The sizes of a mesh's axes."""
    return Axes(*(dict(mesh.shape).get(name, 1) for name in sharding.AXES))


def work_of(policy: Policy, rows: Rows, copies: int, judges: tuple[LocalJudge, ...] = ()) -> Work:
    """A round of training a policy; arguments as of `training`."""
    answers = rows.answers or rows.length - 1
    return Work(
        prompts=max(rows.generated, rows.learned) // rows.group,
        group=rows.group,
        prompt_length=rows.length - answers,
        new_tokens=answers,
        parts=max(1, rows.generated // rows.learned),
        rounds=rows.rounds,
        compute=policy.decoder.compute,
        rank=int(policy.is_adapted),
        given="bfloat16" if policy.arrays()["embedding"].dtype.itemsize < FLOAT else "float32",
        has_magnet=copies > 1,
        judges=judges,
    )


def _busiest_on_cpu(policy: Policy, rows: Rows, trained: int, given: int, judging: dict[str, int]) -> dict[str, int]:
    """Bytes that are there in passing while a gradient is computed, while rows are drawn, or while a judge reads."""
    mesh, a, compute = policy.mesh, policy.architecture, policy.decoder.compute
    n_shares, n_tensor = sharding.n_row_shares(mesh), dict(mesh.shape).get("tensor", 1)
    learned, drawn = -(-rows.learned // n_shares), -(-rows.generated // n_shares)
    alone = rows.learned // rows.group % n_shares or any(one.depends_on_length for one in a.rotaries)
    mine = replace(rows, learned=learned, group=1 if alone else rows.group)
    item = np.dtype(compute.dtype or str(policy.arrays()["embedding"].dtype)).itemsize
    times = ADAPTED_ON_CPU if policy.is_adapted else ON_CPU
    wide = item + FLOAT if item < FLOAT else item  # XLA widens half precision on CPUs
    learning = {
        "gradient": times.gradients * trained,
        "activations": _activations(policy, mine, times.scores) * wide // n_tensor,
        "logits": (
            times.logits * _logits(a, learned, rows.answers or rows.length - 1)
            + times.tables * a.vocabulary * a.width * wide
        )
        // n_tensor,
        "what is replayed": (rows.rounds - 1) * 2 * drawn * (rows.answers or rows.length) * a.width * item,
    }
    cache = 2 * math.prod(policy.decoder.cache_shape(drawn, rows.length)) * item // n_tensor
    drawing = {"cache": 2 * cache + given}  # layers and their keys are copied apart
    return max(learning, drawing, judging, key=lambda parts: sum(parts.values()))


def available(mesh: Mesh) -> tuple[int | None, str]:
    """Bytes that each device of a mesh has left, None if unknown, and what the devices are."""
    device = mesh.local_devices[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0), f"each {device.device_kind}"
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in file)}
        return sizes["MemAvailable"] // len(mesh.local_devices), "this host's processor"
    except (OSError, KeyError, ValueError):
        return None, device.device_kind


def _process(given: int, state: int, policy: Policy) -> dict[str, int]:
    """What a process takes besides its arrays, as the share of each of its devices.

    Args:
        given: bytes of the given policy, which are resident already.
        state: bytes of what a checkpoint holds.
        policy: which is trained.
    """
    n_devices = len(policy.mesh.local_devices)
    runtime = max(0, _resident() - given * n_devices)
    largest = max(array.size for array in policy.arrays().values()) * FLOAT
    written = min(state * n_devices, max(WRITTEN_AT_ONCE, largest))
    sizes = {"runtime": runtime, "compiler": COMPILED, "copies to write": written + written // 5}  # encoded besides
    return {name: size // n_devices for name, size in sizes.items()}


def _resident() -> int:
    """Bytes of this process's memory that are resident; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def _share(array: jax.Array) -> int:
    """Numbers of an array that lie on one device."""
    return math.prod(array.sharding.shard_shape(array.shape))


def _activations(policy: Policy, rows: Rows, n_scores: int) -> int:
    """Numbers that the backward pass keeps; `n_scores` arrays of attention's scores in each layer."""
    a, own = policy.architecture, rows.answers or rows.length
    before, n_prompts = rows.length - own, -(-rows.learned // rows.group)
    tokens = rows.learned * own + n_prompts * before
    pairs = rows.learned * own * rows.length + n_prompts * before**2  # of a token and one that it may attend to
    compute, platform = policy.decoder.compute, policy.mesh.devices.flat[0].platform
    dtype = jnp.dtype(compute.dtype or policy.arrays()["embedding"].dtype)
    plain = chosen(compute.attention, platform, dtype, a.score_softcap, a.head_width) == "plain"
    scores = n_scores * a.n_heads * pairs if plain else 0
    attention = tokens * (a.width + 2 * (a.n_heads + a.n_kv_heads) * a.head_width) + scores
    width = a.experts.width * a.experts.n_chosen if a.experts else a.mlp_width
    inside = attention + tokens * (5 * a.width + (4 if a.gated else 2) * width)
    match compute.remat:
        case "none":
            return a.n_layers * inside
        case "layer":
            return a.n_layers * tokens * a.width + inside
        case _:
            kept = 2 * a.width + (a.n_heads + 2 * a.n_kv_heads) * a.head_width + 2 * width
            return a.n_layers * tokens * kept + inside


def _logits(a: Architecture, n_rows: int, n_targets: int) -> int:
    """Bytes of one array of logits, of a chunk where there are chunks."""
    chunk = chunk_length(n_rows, n_targets, a.vocabulary)
    return FLOAT * min(n_rows * chunk * a.vocabulary, max(LOGITS_AT_A_TIME, n_rows * a.vocabulary))

"""MPO of models of the usual sizes, compiled for slices of TPUs that need not be there.

    python -m benchmarks.device.tpu_mpo [--topologies v5e:4x4 v5p:4x4x4] [--models llama_1b qwen3_8b] [--jobs ...]

In an environment with `jax[tpu]` and no TPU, XLA compiles from shapes alone what a round of training runs: generation,
log-probabilities, and the update with magnet, moments and gradient accumulation; weights are float32, activations
bfloat16. `update_lean` is the update as it fits a small slice: one prompt at a time, Adam's first moment in bfloat16,
and a mesh that keeps fewer rows on a chip.

What it reports says how much every chip holds, what moves between chips, and whether the partitioner had to give up
anywhere ("involuntary full rematerialization"). No result of a move between chips may hold a row's logits over the
whole vocabulary. Nothing is timed but compilation. Results: benchmarks/results/tpu_mpo.json.
"""

import argparse
import itertools
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding

from benchmarks.report import RESULTS, environment, print_table, store
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.model import sharding
from llm_bridge.model.compute import Compute
from llm_bridge.model.decoder import Decoder
from llm_bridge.model.weights import weights
from llm_bridge.policy import generate, scoring
from llm_bridge.policy.sampling import Settings
from llm_bridge.train import learning
from llm_bridge.train.arena import Samples
from llm_bridge.train.objective import Judged, Numbers, PolicyGradient
from llm_bridge.train.train_state import Counters

LLAMA = {"model_type": "llama", "rope_theta": 500_000.0, "vocab_size": 128_256, "num_attention_heads": 32}
MODELS = {
    "llama_1b": LLAMA
    | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "tie_word_embeddings": True},
    "llama_8b": LLAMA | {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32},
    "qwen3_8b": {
        "model_type": "qwen3",
        "rope_theta": 1e6,
        "vocab_size": 151_936,
        "hidden_size": 4096,
        "intermediate_size": 12_288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "head_dim": 128,
    },
}
COMMON = {"num_key_value_heads": 8, "max_position_embeddings": 8192}
MESHES = {"v5e:4x4": {"fsdp": 4, "tensor": 4}, "v5p:4x4x4": {"fsdp": 16, "tensor": 4}}
LEAN_MESHES = {"v5e:4x4": {"fsdp": 8, "tensor": 2}}
HBM = {"v5e": 63 * 2**28, "v5p": 95 * 10**9}  # bytes a chip: as the compiler has it, as the vendor has it
N_PROMPTS, GROUP, PROMPTS_AT_A_TIME, PROMPT_LENGTH, NEW_TOKENS = 16, 8, 4, 512, 512
JOBS = ("generate", "log_probs", "update", "update_lean", "update_adapter")
RANK, ADAPTED = 16, {"query": "heads", "value": "kv_heads"}
MOVES = re.compile(r" = (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
SHAPES = re.compile(r"\w+\[([\d,]*)\]")
GIVEN_UP, TOO_LARGE = "Involuntary full rematerialization", "RESOURCE_EXHAUSTED"


class Described:
    """A model on a mesh, as shapes and places."""

    def __init__(self, name: str, mesh: Mesh):
        self.mesh, self.architecture = mesh, architecture_of(MODELS[name] | COMMON, name)
        sharding.check(self.architecture, mesh)
        self.decoder = Decoder(self.architecture, Compute("bfloat16", remat="layer"), mesh)
        places = sharding.shardings(self.architecture, mesh)
        self.weights = {
            name: jax.ShapeDtypeStruct(weight.full_shape, jnp.float32, sharding=places[name])
            for name, weight in weights(self.architecture).items()
        }

    def array(self, shape: tuple[int, ...], dtype: Any, place: NamedSharding | None = None) -> jax.ShapeDtypeStruct:
        """One that every chip has, if no place is said."""
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place or sharding.whole(self.mesh))

    def rows(self, n: int, length: int, dtype: Any) -> jax.ShapeDtypeStruct:
        """Something of each token."""
        return self.array((n, length), dtype, sharding.rows(self.mesh, 2))

    def generate(self) -> Any:
        """All rows of a round drawn at once."""
        n_rows = N_PROMPTS * GROUP
        prompts = (
            self.rows(n_rows, PROMPT_LENGTH, jnp.int32),
            self.array((n_rows,), jnp.int32, sharding.rows(self.mesh, 1)),
        )
        numbers = (((2,), jnp.uint32), ((), jnp.int32), ((), jnp.float32), ((), jnp.int32), ((), jnp.float32))
        settings = Settings(*(self.array(*number) for number in (*numbers, ((1, 1), jnp.int32))))  # type: ignore
        shape = generate.Shape(NEW_TOKENS, False, False, 0, "threefry2x32")
        return generate.run.lower(self.decoder, shape, self.weights, prompts, settings)

    def log_probs(self) -> Any:
        """Rows of a part of the prompts."""
        n_rows, length = PROMPTS_AT_A_TIME * GROUP, PROMPT_LENGTH + NEW_TOKENS
        n_at_once = scoring.chunk_length(n_rows // sharding.n_row_shares(self.mesh), length - 1, self.vocabulary)
        tokens, mask = self.rows(n_rows, length, jnp.int32), self.rows(n_rows, length, jnp.bool_)
        return scoring.log_probs.lower(self.decoder, self.weights, tokens, mask, n_at_once)

    def update(self) -> Any:
        """A round's optimizer steps, as `MPO` makes them; no copy of the first policy is kept."""
        return self._update(self.decoder, self.weights, {})

    def update_lean(self) -> Any:
        """The same in the least memory."""
        return self._update(self.decoder, self.weights, {}, (1, "bfloat16"))

    def update_adapter(self) -> Any:
        """The same with an adapter on a base in bfloat16."""
        base, adapter = {}, {}
        for name, array in self.weights.items():
            base[name] = self.array(array.shape, jnp.bfloat16, array.sharding)
            if (axis := ADAPTED.get(name.removeprefix("layers."))) is not None:
                n_layers, into, out = array.shape
                sides = {"a": ((n_layers, into, RANK), "width", 1), "b": ((n_layers, RANK, out), axis, 2)}
                for side, (shape, meaning, at) in sides.items():
                    axes: list[Any] = ["layers"] * 3  # not divided
                    axes[at] = meaning
                    place = NamedSharding(self.mesh, sharding.spec(axes, self.mesh))
                    adapter[f"{name}.lora_{side}"] = self.array(shape, jnp.float32, place)
        return self._update(replace(self.decoder, adapter_scale=1.0), adapter, base)

    def _update(
        self, decoder: Decoder, trained_weights: Any, base: Any, way: tuple[int, str] = (PROMPTS_AT_A_TIME, "float32")
    ) -> Any:
        at_a_time, first_moment = way
        optimizer = learning.adam(0.9, 0.999, 1e-5, 1.0, first_moment)
        learner = learning.Learner(decoder, PolicyGradient(), optimizer, 4, at_a_time, NEW_TOKENS)
        state = jax.eval_shape(optimizer.init, trained_weights)

        def placed(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
            return self.array(leaf.shape, leaf.dtype, trained_weights[path[-1].key].sharding if leaf.ndim else None)

        moments = jax.tree_util.tree_map_with_path(placed, state)
        integer, real = self.array((), jnp.int32), self.array((), jnp.float32)
        trained = (trained_weights, moments, Counters(integer, integer, real))  # type: ignore
        n_rows, length = N_PROMPTS * GROUP, PROMPT_LENGTH + NEW_TOKENS
        of_tokens = [self.rows(n_rows, length, dtype) for dtype in (jnp.int32, jnp.bool_, jnp.bool_, jnp.float32)]
        judged = Judged(
            self.array((N_PROMPTS, GROUP), jnp.float32),  # type: ignore
            self.array((N_PROMPTS, GROUP, GROUP), jnp.float32),  # type: ignore
        )
        samples, numbers = Samples(*of_tokens), Numbers(real, real)  # type: ignore
        given = (samples, judged, numbers, real, (base, trained_weights, {}))
        program: Any = sharding.program(learning.Learner.steps, learner, trained)
        return program.lower(trained, *given)

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.architecture.vocabulary


@contextmanager
def heard() -> Iterator[Callable[[], str]]:
    """What the compiler writes to the standard error inside; it is no Python."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)

        def said() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)


def compiled(model: Described, job: str) -> dict[str, Any]:
    """One program: what a chip holds, what moves, and what the partitioner said."""
    begun = time.perf_counter()
    with heard() as said:
        try:
            program = getattr(model, job)().compile()
        except jax.errors.JaxRuntimeError as error:
            if TOO_LARGE not in str(error):
                raise
            return {"does_not_fit": str(error).partition("\n")[0]}
        given_up = said().count(GIVEN_UP)
    seconds = time.perf_counter() - begun
    moved: dict[str, list[tuple[int, ...]]] = {}
    for result, kind in MOVES.findall(program.as_text() or ""):
        shapes = [tuple(int(n) for n in shape.split(",") if n) for shape in SHAPES.findall(result)]
        moved.setdefault(kind, []).append(max(shapes, key=math.prod))
    memory = program.memory_analysis()
    arguments, kept = memory.argument_size_in_bytes, memory.alias_size_in_bytes
    total = arguments + memory.temp_size_in_bytes + memory.output_size_in_bytes - kept
    logits = [s for shapes in moved.values() for s in shapes if model.vocabulary in s and len(s) > 1]
    tables = {model.architecture.width // n for n in (1, *model.mesh.shape.values())}
    return {
        "bytes_per_chip": {"arguments": arguments, "temporary": memory.temp_size_in_bytes, "in_all": total},
        "moves": {kind: {"count": len(s), "largest": max(s, key=math.prod)} for kind, s in moved.items()},
        "gathered_logits": [s for s in logits if not tables & set(s)],
        "given_up": given_up,
        "compile_seconds": seconds,
    }


def main() -> None:
    """Compile, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topologies", nargs="+", default=list(MESHES), choices=list(MESHES))
    parser.add_argument("--models", nargs="+", default=["llama_1b", "qwen3_8b"], choices=list(MODELS))
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    arguments = parser.parse_args()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU whose metadata could be asked for
    stored = RESULTS / "tpu_mpo.json"
    results = json.loads(stored.read_text())["results"] if stored.exists() else []
    for place, job, name in itertools.product(arguments.topologies, arguments.jobs, arguments.models):
        shape = (LEAN_MESHES if job == "update_lean" else MESHES).get(place)
        if shape is not None:
            devices = np.array(topologies.get_topology_desc(platform="tpu", topology_name=place).devices)
            mesh = Mesh(devices.reshape(*shape.values()), tuple(shape), axis_types=(AxisType.Auto,) * len(shape))
            key = {"topology": place, "mesh": shape, "model": name, "job": job}
            found = key | compiled(Described(name, mesh), job)
            results = [row for row in results if {part: row[part] for part in key} != key] + [found]
            keep(sorted(results, key=lambda row: (row["topology"], row["model"], row["job"])))
    report(results)
    assert not any(r.get("gathered_logits") for r in results), "logits of the whole vocabulary move between chips"


def keep(results: list[dict[str, Any]]) -> None:
    """Store what is there; a compilation takes minutes."""
    settings = {"prompts": N_PROMPTS, "group": GROUP, "prompts_at_a_time": PROMPTS_AT_A_TIME}
    lengths = {"prompt_length": PROMPT_LENGTH, "new_tokens": NEW_TOKENS}
    versions = environment() | {"libtpu": version("libtpu")}
    store("tpu_mpo", {"environment": versions, "work": settings | lengths, "results": results})


def page_rows(results: list[dict[str, Any]]) -> list[str]:
    """The rows of the table in docs/how-to/use-many-devices.md."""
    rows = []
    for r in results:
        hbm = HBM[r["topology"].partition(":")[0]] / 1e9
        place = " x ".join(f"{name} {size}" for name, size in r["mesh"].items())
        start = f"| {r['topology']}, {place} | {r['model']} | {r['job'].replace('_', ' ')} |"
        held = "does not fit in" if "does_not_fit" in r else f"{r['bytes_per_chip']['in_all'] / 1e9:.1f} of"
        rows.append(f"{start} {held} {hbm:.0f} |")
    return rows


def report(results: list[dict[str, Any]]) -> None:
    """A row for each program."""
    print_table(
        ("slice", "model", "job", "GB a chip", "arguments", "of", "given up", "gathered logits", "moves", "compile s"),
        [
            (
                r["topology"],
                r["model"],
                r["job"],
                *(f"{r['bytes_per_chip'][part] / 1e9:.2f}" for part in ("in_all", "arguments")),
                f"{HBM[r['topology'].partition(':')[0]] / 1e9:.0f}",
                str(r["given_up"]),
                str(len(r["gathered_logits"])),
                ", ".join(f"{m['count']} {kind}" for kind, m in r["moves"].items()),
                f"{r['compile_seconds']:.0f}",
            )
            for r in results
            if "does_not_fit" not in r
        ],
    )
    for r in results:
        if "does_not_fit" in r:
            print(f"{r['topology']} {r['model']} {r['job']}: {r['does_not_fit']}")


if __name__ == "__main__":
    main()

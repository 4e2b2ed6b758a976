"""What the programs of a round move and multiply on a slice, counted from compiled text with loop trips.

    python -m benchmarks.device.pod [--pretend] [--programs NAME ...]

With `jax[tpu]` and no TPU the programs are compiled for the chips themselves. With `--pretend` XLA divides them among
as many devices of a processor: the same partitioner and the same shapes, in float32, whose bytes are halved, since a
TPU moves bfloat16. What a TPU's compiler does besides (sums that it scatters, gathers in steps) is not in that. Layers
are scanned and equal, so two and three of them give all.

Results, by the hash of the lowered programs, so that a rerun compiles what has changed: benchmarks/results/pod.json.
"""

import argparse
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks.device.tpu_mpo import COMMON, MODELS
from benchmarks.report import RESULTS, environment, print_table, store
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.command.mesh_choice import arranged
from llm_bridge.model.compute import Compute
from llm_bridge.plan import counts
from llm_bridge.plan.programs import Described
from llm_bridge.plan.work import Work

DEVICES = 32  # pretended
FEW = (2, 3)  # layers
LORA: dict[str, Any] = {"rank": 16, "targets": ("query", "value")}
ROUND: dict[str, Any] = {"prompts": 16, "group": 8, "prompt_length": 512, "new_tokens": 512, "epochs": 4}


@dataclass(frozen=True)
class Program:
    """One program on one slice, with the most that it may move: GB a chip over links."""

    topology: str
    mesh: dict[str, int]
    model: str
    job: str
    work: dict[str, Any]
    most: float
    layers: int = field(default=36)


PROGRAMS = {
    "log_probs_8b": Program("v5e:4x4", {"fsdp": 4, "tensor": 4}, "qwen3_8b", "log_probs", {"parts": 4}, 10.0),
    "lora_update_8b": Program("v5e:2x4", {"fsdp": 8}, "qwen3_8b", "update", LORA | {"parts": 2}, 600.0),
    "full_update_1b": Program("v5e:4x4", {"fsdp": 4, "tensor": 4}, "llama_1b", "update", {"parts": 4}, 150.0, 16),
    "token_8b_v5e_16": Program("v5e:4x4", {"fsdp": 4, "tensor": 4}, "qwen3_8b", "generate", {}, 0.15),
    "token_8b_v5e_8": Program("v5e:2x4", {"fsdp": 8}, "qwen3_8b", "generate", {}, 0.15),
    "token_8b_v5p_32": Program("v5p:2x4x4", {"fsdp": 8, "tensor": 4}, "qwen3_8b", "generate", {}, 0.15),
    "reshard_8b_v5e_16": Program("v5e:4x4", {"fsdp": 4, "tensor": 4}, "qwen3_8b", "reshard", {}, 10.0),
    "reshard_8b_v5e_8": Program("v5e:2x4", {"fsdp": 8}, "qwen3_8b", "reshard", {}, 10.0),
}


def mesh_of(program: Program, pretend: bool) -> Mesh:
    """Of pretended devices, or of a slice that is not there."""
    sizes = tuple(program.mesh.values())
    if pretend:
        devices = np.array(jax.devices()[: int(np.prod(sizes))]).reshape(sizes)
    else:
        from jax.experimental import topologies

        slice_ = topologies.get_topology_desc(platform="tpu", topology_name=program.topology)
        devices = arranged(sizes, slice_.devices)
    return Mesh(devices, tuple(program.mesh), axis_types=(AxisType.Auto,) * len(sizes))


def counted(program: Program, layers: int, known: dict[str, Any], pretend: bool) -> tuple[str, dict[str, float]]:
    """One depth: the hash of the lowered program, and bytes moved, results of moves and products, a chip."""
    compute = Compute("float32" if pretend else "bfloat16", "layer", "plain" if pretend else "auto")
    architecture = architecture_of(MODELS[program.model] | COMMON | {"num_hidden_layers": layers}, program.model)
    described = Described(architecture, mesh_of(program, pretend), Work(**(ROUND | program.work), compute=compute))
    lowered = described.lowered(program.job)
    digest = hashlib.sha256(lowered.as_text().encode()).hexdigest()[:16]
    if digest in known:
        return digest, known[digest]
    begun = time.process_time()
    text = lowered.compile().as_text() or ""
    one = counts.counted(text, 1)
    found = {"moved": sum(one.moved.values()), "results": sum(one.results.values()), "flops": one.flops}
    if one.unknown_loops:  # a token is the difference that another turn makes
        two = counts.counted(text, 2)
        more = {"moved": sum(two.moved.values()), "results": sum(two.results.values()), "flops": two.flops}
        found = {name: more[name] - found[name] for name in found}
    halved = {name: n / 2 if pretend and name != "flops" else n for name, n in found.items()}
    return digest, halved | {"compile_seconds": time.process_time() - begun}


def main() -> None:
    """Count, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretend", action="store_true", help="on devices of a processor")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS))
    asked = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES} {os.environ.get('XLA_FLAGS', '')}"
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU whose metadata could be asked for
    path, way = RESULTS / "pod.json", "pretended" if asked.pretend else "compiled"
    stored = json.loads(path.read_text()) if path.exists() else {"programs": {}, "lowered": {}}
    for name in asked.programs:
        program, found = PROGRAMS[name], []
        for layers in FEW:
            digest, numbers = counted(program, layers, stored["lowered"], asked.pretend)
            stored["lowered"][digest] = numbers
            found.append(numbers)
        kinds, more = ("moved", "results", "flops"), (program.layers - FEW[0]) / (FEW[1] - FEW[0])
        whole = {kind: found[0][kind] + (found[1][kind] - found[0][kind]) * more for kind in kinds}
        of = {"topology": program.topology, "mesh": program.mesh, "model": program.model, "job": program.job}
        work = ROUND | {key: list(n) if isinstance(n, tuple) else n for key, n in program.work.items()}
        stored["programs"][f"{name}, {way}"] = of | {"work": work, "most_gb": program.most} | whole
        store("pod", stored | {"environment": environment()})
    rows = [
        (name, f"{p['moved'] / 1e9:.3f}", f"{p['results'] / 1e9:.3f}", f"{p['most_gb']:g}", f"{p['flops'] / 1e12:.2f}")
        for name, p in stored["programs"].items()
    ]
    print_table(("program", "GB over links a chip", "GB of results", "at most", "TFLOP a chip"), rows)


if __name__ == "__main__":
    main()

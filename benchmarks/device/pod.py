"""What the programs of a round move and multiply on a slice, counted from compiled text with loop trips.

    python -m benchmarks.device.pod [--pretend] [--programs NAME ...]

With `jax[tpu]` and no TPU the programs are compiled for the chips themselves. With `--pretend` XLA divides them among
as many devices of a processor: the same partitioner and the same shapes, in float32, whose bytes are halved, since a
TPU moves bfloat16. What a TPU's compiler does besides (sums that it scatters, gathers in steps) is not in that. Layers
are scanned and equal, so two and three of them give all there.

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

from benchmarks.device.early import decided
from benchmarks.device.tpu_mpo import COMMON, MODELS
from benchmarks.report import RESULTS, environment, print_table, store
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.command.mesh_choice import arranged
from llm_bridge.model.compute import Compute
from llm_bridge.model.weights import count
from llm_bridge.plan import counts
from llm_bridge.plan.programs import Described
from llm_bridge.plan.work import Work

DEVICES = 32  # pretended
FEW = (2, 3)  # layers
LORA: dict[str, Any] = {"rank": 16, "targets": ("query", "value")}
LONG: dict[str, Any] = {"prompts": 4, "group": 1, "prompt_length": 8192, "new_tokens": 8192}
ROUND: dict[str, Any] = {"prompts": 16, "group": 8, "prompt_length": 512, "new_tokens": 512, "epochs": 4}


@dataclass(frozen=True)
class Program:
    """One program on one slice, with the most that it may move: GB a chip over links; None where none is said."""

    topology: str
    mesh: dict[str, int]
    model: str
    job: str
    work: dict[str, Any]
    most: float | None
    layers: int = field(default=36)


PROGRAMS = {
    "log_probs_8b": Program("v5e:4x4", {"fsdp": 4, "tensor": 4}, "qwen3_8b", "log_probs", {"parts": 4}, 10.0),
    "log_probs_8b_data": Program(
        "v5e:4x4", {"data": 2, "fsdp": 2, "tensor": 4}, "qwen3_8b", "log_probs", {"parts": 4}, 10.0
    ),
    "lora_update_8b": Program("v5e:2x4", {"fsdp": 8}, "qwen3_8b", "update", LORA | {"parts": 2}, 600.0),
    "full_update_1b": Program("v5e:4x4", {"fsdp": 4, "tensor": 4}, "llama_1b", "update", {"parts": 4}, 150.0, 16),
    "full_update_8b": Program("v5p:2x2x1", {"fsdp": 4}, "qwen3_8b", "update", {"parts": 8}, None),
    "log_probs_8b_long": Program("v5e:4x4", {"fsdp": 4, "tensor": 4}, "qwen3_8b", "log_probs", LONG, None),
    "lora_update_8b_long": Program(
        "v5e:4x4", {"fsdp": 4, "tensor": 4}, "qwen3_8b", "update", LORA | LONG | {"prompts": 2, "group": 2}, None
    ),
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


def lowered(name: str, layers: int, pretend: bool) -> tuple[str, Any]:
    """Where a program of so many layers runs, and the program."""
    program = PROGRAMS[name]
    compute = Compute("float32" if pretend else "bfloat16", "layer", "plain" if pretend else "auto")
    architecture = architecture_of(MODELS[program.model] | COMMON | {"num_hidden_layers": layers}, program.model)
    described = Described(architecture, mesh_of(program, pretend), Work(**(ROUND | program.work), compute=compute))
    return "" if pretend else program.topology, described.lowered(program.job)


def compiled(name: str, known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """For TPUs, of all layers: the hash of the lowered program, and bytes moved, held, and products, a chip."""
    found = decided(lowered, (name, PROGRAMS[name].layers, False), known)
    if found.digest in known:
        return found.digest, known[found.digest]
    return found.digest, numbers_of(found.text) | {"bytes": found.held}


def pretended(name: str, layers: int, known: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """One depth: the hash of the lowered program, and bytes moved, results of moves and products, a chip."""
    _, program = lowered(name, layers, True)
    digest = hashlib.sha256(program.as_text().encode()).hexdigest()[:16]
    if digest in known:
        return digest, known[digest]
    begun = time.process_time()
    found = numbers_of(program.compile().as_text() or "")
    halved = {name: n if name == "flops" else n / 2 for name, n in found.items()}
    return digest, halved | {"compile_seconds": time.process_time() - begun}


def numbers_of(text: str) -> dict[str, float]:
    """Of a program; of one that draws until something happens, the difference that another token makes."""
    one = counts.counted(text, 1)
    found = {"moved": sum(one.moved.values()), "results": sum(one.results.values()), "flops": one.flops}
    if one.unknown_loops:
        two = counts.counted(text, 2)
        more = {"moved": sum(two.moved.values()), "results": sum(two.results.values()), "flops": two.flops}
        found = {name: more[name] - found[name] for name in found}
    return found


def main() -> None:
    """Count, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretend", action="store_true", help="on devices of a processor")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS))
    asked = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES} {os.environ.get('XLA_FLAGS', '')}"
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU whose metadata could be asked for
    jax.config.update("jax_platforms", "cpu")  # or this process would keep the TPU's library from those that compile
    path, way = RESULTS / "pod.json", "pretended" if asked.pretend else "compiled"
    stored = json.loads(path.read_text()) if path.exists() else {"programs": {}, "lowered": {}}
    for name in asked.programs:
        program, found, kinds = PROGRAMS[name], [], ("moved", "results", "flops")
        for layers in FEW if asked.pretend else ():
            digest, numbers = pretended(name, layers, stored["lowered"])
            stored["lowered"][digest] = numbers
            found.append(numbers)
        if asked.pretend:
            more = (program.layers - FEW[0]) / (FEW[1] - FEW[0])
            whole = {kind: found[0][kind] + (found[1][kind] - found[0][kind]) * more for kind in kinds}
        else:
            digest, whole = compiled(name, stored["lowered"])
            stored["lowered"][digest] = whole
        of = {"topology": program.topology, "mesh": program.mesh, "model": program.model, "job": program.job}
        work = ROUND | {key: list(n) if isinstance(n, tuple) else n for key, n in program.work.items()}
        if program.job == "update":
            work_of = Work(**(ROUND | program.work))
            tokens = work_of.rows * work_of.length * work_of.epochs
            n = count(architecture_of(MODELS[program.model] | COMMON, program.model))
            whole = whole | {
                "flops_of_a_token_over_weights": whole["flops"] * np.prod(list(program.mesh.values())) / tokens / n
            }
        stored["programs"][f"{name}, {way}"] = of | {"work": work, "most_gb": program.most} | whole
        store("pod", stored | {"environment": environment()})
    rows = [
        (
            name,
            f"{p['moved'] / 1e9:.3f}",
            f"{p['results'] / 1e9:.3f}",
            f"{p['most_gb']:g}" if p["most_gb"] else "",
            f"{p['flops'] / 1e12:.2f}",
            f"{p['flops_of_a_token_over_weights']:.2f}" if "flops_of_a_token_over_weights" in p else "",
            f"{p['bytes'] / 1e9:.2f}" if "bytes" in p else "",
        )
        for name, p in stored["programs"].items()
    ]
    print_table(
        ("program", "GB over links a chip", "GB of results", "at most", "TFLOP a chip", "FLOP / token / N", "GB held"),
        rows,
    )


if __name__ == "__main__":
    main()

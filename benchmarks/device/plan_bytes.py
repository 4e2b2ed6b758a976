"""Bytes of a chip that the model without a compiler says, beside those of the programs compiled for TPUs.

    python -m benchmarks.device.plan_bytes [--programs NAME ...] [--judges NAME ...] [--said]

In an environment with `jax[tpu]` and no TPU. The compiler reports bytes after some ten seconds, and is ended then.
Where all layers would not fit the slice there are fewer. With `--said` nothing is compiled: what the model says is new.

Results, by the hash of the lowered programs, so that a rerun compiles what has changed:
benchmarks/results/plan_bytes.json.
"""

import argparse
import json
import os
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from benchmarks.device.early import decided
from benchmarks.device.tpu_mpo import COMMON, LLAMA, MODELS
from benchmarks.report import RESULTS, environment, print_table, store
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.command.mesh_choice import arranged
from llm_bridge.model.compute import Compute
from llm_bridge.plan.estimate import MARGIN, columns_of
from llm_bridge.plan.estimate import held as estimated
from llm_bridge.plan.programs import Described, judging
from llm_bridge.plan.work import Axes, LocalJudge, Work

SHAPES = MODELS | {
    "llama_70b": LLAMA
    | {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80, "num_attention_heads": 64},
}
LORA: dict[str, Any] = {"rank": 16, "targets": ("query", "value")}
LONG: dict[str, Any] = {"prompts": 32, "new_tokens": 2048}  # whose rows are sorted by length
ROUND: dict[str, Any] = {"prompts": 16, "group": 8, "prompt_length": 512, "new_tokens": 512, "epochs": 4}


@dataclass(frozen=True)
class Program:
    """An update on one slice: the mesh, and how its round differs from `ROUND`."""

    topology: str
    axes: Axes
    model: str
    work: dict[str, Any] = field(default_factory=dict)
    remat: Any = "layer"
    layers: int | None = None  # of the model's, None for all


PROGRAMS = {
    "1b_full_fsdp": Program("v5e:2x4", Axes(1, 8, 1), "llama_1b"),
    "1b_full_tensor": Program("v5e:2x4", Axes(1, 4, 2), "llama_1b", {"parts": 4}),
    "1b_full_data": Program("v5p:2x2x1", Axes(2, 2, 1), "llama_1b", {"parts": 4}),
    "1b_lora_fsdp": Program("v5e:2x4", Axes(1, 8, 1), "llama_1b", LORA | {"parts": 2}),
    "1b_lora_data": Program("v5p:2x2x1", Axes(4, 1, 1), "llama_1b", LORA | {"parts": 4}),
    "8b_full_fsdp": Program("v5p:2x2x1", Axes(1, 4, 1), "qwen3_8b", {"parts": 8}),
    "8b_full_tensor": Program("v5e:2x4", Axes(1, 4, 2), "qwen3_8b", {"parts": 8}, layers=12),
    "8b_lora_fsdp": Program("v5e:2x4", Axes(1, 8, 1), "qwen3_8b", LORA | {"parts": 2}),
    "8b_lora_tensor": Program("v5e:2x4", Axes(1, 2, 4), "qwen3_8b", LORA | {"parts": 4}),
    "8b_lora_kept": Program("v5p:2x2x1", Axes(1, 4, 1), "qwen3_8b", LORA | {"parts": 8}, "projections"),
    "1b_full_sorted": Program("v5p:2x2x1", Axes(1, 2, 2), "llama_1b", LONG),
    "8b_lora_sorted": Program("v5e:2x4", Axes(1, 4, 2), "qwen3_8b", LORA | LONG),
    "1b_lora_sorted": Program("v5e:2x4", Axes(1, 8, 1), "llama_1b", LORA | LONG),
    "8b_lora_sorted_parts": Program("v5p:2x2x1", Axes(4, 1, 1), "qwen3_8b", LORA | LONG | {"prompts": 64, "parts": 2}),
    "8b_lora_all": Program("v5e:2x4", Axes(1, 8, 1), "qwen3_8b", {"rank": 16, "parts": 2}),
    "1b_full_data_8": Program("v5p:2x2x2", Axes(8, 1, 1), "llama_1b", {"parts": 2}),
    "1b_full_16": Program("v5e:4x4", Axes(1, 4, 4), "llama_1b", {"parts": 4}),
    "8b_full_16": Program("v5e:4x4", Axes(1, 4, 4), "qwen3_8b", {"parts": 16}),
    "8b_full_sorted": Program("v5p:2x2x2", Axes(1, 8, 1), "qwen3_8b", LONG),
    "1b_lora_none": Program("v5e:2x4", Axes(1, 8, 1), "llama_1b", LORA | {"parts": 4}, "none"),
    "8b_lora_none": Program("v5p:2x2x1", Axes(1, 4, 1), "qwen3_8b", LORA | {"parts": 8}, "none"),
    "70b_full_tensor": Program("v5p:2x2x1", Axes(1, 2, 2), "llama_70b", {"parts": 16}, layers=4),
    "70b_lora_tensor": Program("v5p:2x2x1", Axes(1, 2, 2), "llama_70b", LORA | {"parts": 8}, layers=8),
    "70b_lora_fsdp": Program("v5e:2x4", Axes(1, 8, 1), "llama_70b", LORA | {"parts": 8}, layers=8),
}


@dataclass(frozen=True)
class Judge:
    """A judge on one slice: the mesh, whether it is asked, and the most tokens of a prompt and of an answer."""

    topology: str
    axes: Axes
    model: str
    asked: bool = False
    tokens: tuple[int, int] = (928, 512)

    @property
    def known(self) -> tuple[LocalJudge, Work]:
        """As a plan has them."""
        architecture = architecture_of(SHAPES[self.model] | COMMON, self.model)
        judge = LocalJudge(architecture, "bfloat16", self.axes, rows=8 if self.asked else 16, asked=self.asked)
        return judge, Work(prompt_length=self.tokens[0], new_tokens=self.tokens[1], judges=(judge,))


JUDGES = {
    "8b_fsdp": Judge("v5e:2x4", Axes(1, 8, 1), "qwen3_8b"),
    "8b_fsdp_asked": Judge("v5e:2x4", Axes(1, 8, 1), "qwen3_8b", asked=True),
    "8b_tensor": Judge("v5e:2x4", Axes(1, 2, 4), "qwen3_8b"),
    "8b_both": Judge("v5e:2x4", Axes(1, 4, 2), "qwen3_8b"),
    "8b_fsdp_16": Judge("v5e:4x4", Axes(1, 16, 1), "qwen3_8b"),
    "8b_both_16": Judge("v5e:4x4", Axes(1, 4, 4), "qwen3_8b"),
    "8b_copies_asked": Judge("v5e:2x4", Axes(2, 4, 1), "qwen3_8b", asked=True),
    "8b_v5p": Judge("v5p:2x2x1", Axes(1, 4, 1), "qwen3_8b"),
    "8b_v5p_asked": Judge("v5p:2x2x1", Axes(1, 4, 1), "qwen3_8b", asked=True, tokens=(1024, 896)),
    "1b_data": Judge("v5e:2x4", Axes(8, 1, 1), "llama_1b"),
    "1b_fsdp": Judge("v5e:2x4", Axes(1, 8, 1), "llama_1b", tokens=(416, 256)),
    "1b_tensor_asked": Judge("v5e:2x4", Axes(1, 2, 4), "llama_1b", asked=True),
    "llama_8b_tensor": Judge("v5e:2x4", Axes(1, 1, 8), "llama_8b", tokens=(1024, 896)),
    "llama_8b_tensor_asked": Judge("v5e:2x4", Axes(1, 1, 8), "llama_8b", asked=True, tokens=(1024, 896)),
    "70b_fsdp": Judge("v5e:4x4", Axes(1, 16, 1), "llama_70b"),
    "70b_both_asked": Judge("v5p:2x2x2", Axes(1, 4, 2), "llama_70b", asked=True),
}


def said_of_judge(judge: Judge) -> tuple[float, float]:
    """Bytes of its weights on a chip, and of what is there while it reads."""
    local, work = judge.known
    found = estimated(local.architecture, judge.axes, work)
    return found.state["judge"], MARGIN * sum(found.judging.values())


def mesh_of(topology: str, axes: Axes) -> Mesh:
    """Of a slice that is not there."""
    from jax.experimental import topologies

    slice_ = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    sizes = {name: n for name, n in axes._asdict().items() if n > 1}
    devices = arranged(tuple(sizes.values()), slice_.devices)
    return Mesh(devices, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def judging_of(name: str) -> tuple[str, Any]:
    """The slice, and the program of a judge for it."""
    judge = JUDGES[name]
    local, work = judge.known
    return judge.topology, judging(local, mesh_of(judge.topology, judge.axes), work)


def given(program: Program) -> tuple[Any, Axes, Work]:
    """The model, the mesh and the round."""
    work = Work(**(ROUND | program.work), compute=Compute("bfloat16", program.remat))
    config = SHAPES[program.model] | COMMON
    layers = {"num_hidden_layers": program.layers or config["num_hidden_layers"]}
    return architecture_of(config | layers, program.model), program.axes, work


def said(program: Program) -> dict[str, float]:
    """Bytes by the model, by what they are for."""
    found = estimated(*given(program))
    return {**found.state, **{name: n * MARGIN for name, n in found.learning.items()}}


def lowered(name: str) -> tuple[str, Any]:
    """The slice, and a program for it."""
    program = PROGRAMS[name]
    architecture, _, work = given(program)
    return program.topology, Described(architecture, mesh_of(program.topology, program.axes), work).lowered("update")


def main() -> None:
    """Compile, compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--judges", nargs="*", default=list(JUDGES), choices=list(JUDGES))
    parser.add_argument("--said", action="store_true", help="keep what was compiled: only what the model says is new")
    asked = parser.parse_args()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU whose metadata could be asked for
    jax.config.update("jax_platforms", "cpu")  # or this process would keep the TPU's library from those that compile
    path = RESULTS / "plan_bytes.json"
    stored = json.loads(path.read_text()) if path.exists() else {"programs": {}, "lowered": {}}
    for name in asked.programs:
        digest = stored["programs"].get(name, {}).get("digest")
        if (n_bytes := _compiled(lowered, name, digest, asked.said, stored["lowered"])) is not None:
            stored["programs"][name] = compared(PROGRAMS[name], *n_bytes)
        store("plan_bytes", stored | {"environment": environment()})
    for name in asked.judges:
        digest = stored.setdefault("judges", {}).get(name, {}).get("digest")
        if (n_bytes := _compiled(judging_of, name, digest, asked.said, stored["lowered"])) is not None:
            stored["judges"][name] = compared_judge(JUDGES[name], *n_bytes)
        store("plan_bytes", stored | {"environment": environment()})
    report(stored["programs"] | {f"judge {name}": found for name, found in stored["judges"].items()})


def _compiled(
    make: Any, name: str, digest: str | None, said_only: bool, known: dict[str, Any]
) -> tuple[str, float] | None:
    """The hash of a program and its bytes; None where it is not known or was refused."""
    if not said_only:
        found = decided(make, (name,), known)
        digest = found.digest
        if digest not in known:
            known[digest] = {"refused": found.refused} if found.held is None else {"bytes": found.held}
        print(name, known[digest], flush=True)
    return (digest, known[digest]["bytes"]) if digest and "bytes" in known.get(digest, {}) else None


def compared_judge(judge: Judge, digest: str, n_bytes: float) -> dict[str, Any]:
    """What is said, beside what was compiled; weights, which are exact, left out."""
    local, work = judge.known
    weights, read = said_of_judge(judge)
    of = {"topology": judge.topology, "mesh": judge.axes._asdict(), "model": judge.model, "asked": judge.asked}
    of |= {"rows": local.rows, "columns": columns_of(local, work), "digest": digest, "weights_bytes": weights}
    found = {"compiled_bytes": n_bytes - weights, "said_bytes": read}
    return of | found | {"said_over_compiled": read / (n_bytes - weights)}


def compared(program: Program, digest: str, n_bytes: float) -> dict[str, Any]:
    """What is said, beside what was compiled."""
    (architecture, axes, _), parts = given(program), said(program)
    work = {key: list(n) if isinstance(n, tuple) else n for key, n in (ROUND | program.work).items()}
    of = {"topology": program.topology, "mesh": axes._asdict(), "model": program.model, "remat": program.remat}
    of |= {"layers": architecture.n_layers, "work": work, "digest": digest}
    found = {"compiled_bytes": n_bytes, "said_bytes": sum(parts.values()), "parts": parts}
    return of | found | {"said_over_compiled": sum(parts.values()) / n_bytes}


def report(programs: dict[str, Any]) -> None:
    """A row for each program."""
    print_table(
        ("program", "slice", "GB compiled", "GB said", "said / compiled"),
        [
            (
                name,
                p["topology"],
                f"{p['compiled_bytes'] / 1e9:.2f}",
                f"{p['said_bytes'] / 1e9:.2f}",
                f"{p['said_over_compiled']:.3f}",
            )
            for name, p in programs.items()
        ],
    )


if __name__ == "__main__":
    main()

"""What a plan says is what programs do: counts of compiled text, and the model without a compiler beside it."""

import dataclasses
import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import llm_bridge as bridge
from benchmarks.device import plan_bytes
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.command import mesh_choice
from llm_bridge.command.cli import main
from llm_bridge.command.judge_choice import judge_of, local
from llm_bridge.command.options import Train
from llm_bridge.judges.preference_model import PreferenceTraining, text_layout
from llm_bridge.model.compute import Compute
from llm_bridge.model.weights import count
from llm_bridge.plan import counts, memory
from llm_bridge.plan.compiled import compiled_with_bytes
from llm_bridge.plan.estimate import estimate, held
from llm_bridge.plan.hardware import CHIPS, topology
from llm_bridge.plan.programs import Described, judging
from llm_bridge.plan.search import choices
from llm_bridge.plan.work import Axes, LocalJudge, Work
from llm_bridge.text.tokenizer import tokenizer_of
from mmd.host.command_line import UsageError
from tests.llm.cases import config_of
from tests.llm.test_tokenizer import tokenizer

ROWS, INNER, OUT, TRIPS = 32, 64, 48, 7


def compiled(spec: PartitionSpec, function) -> counts.Counts:
    """On four devices, the matrix divided by the spec, the rows over all."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("x",), axis_types=(AxisType.Auto,))
    x = jax.ShapeDtypeStruct((ROWS, INNER), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("x")))
    w = jax.ShapeDtypeStruct((INNER, INNER), jnp.float32, sharding=NamedSharding(mesh, spec))
    program = jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec("x"))).lower(x, w).compile()
    return counts.counted(program.as_text() or "")


def test_a_loop_counts_as_often_as_it_goes_round() -> None:
    """Each trip multiplies a quarter of the rows; the matrix is gathered once, before the loop or in it."""

    def looped(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, TRIPS, lambda _, y: jnp.tanh(y @ w), x)

    found = compiled(PartitionSpec("x"), looped)
    assert found.flops == TRIPS * 2 * ROWS // 4 * INNER * INNER
    gathered = INNER * INNER * 4
    assert found.results["all-gather"] in (gathered, TRIPS * gathered)
    assert found.moved["all-gather"] == found.results["all-gather"] * 3 // 4
    assert found.unknown_loops == 0


def test_a_sum_over_devices_counts_twice_its_share() -> None:
    """A ring sends each part around once to add and once to tell."""

    def summed(x: jax.Array, w: jax.Array) -> jax.Array:
        return x * jnp.sum(x @ w)

    found = compiled(PartitionSpec(), summed)
    assert (found.results["all-reduce"], found.moved["all-reduce"]) == (4, 6)
    assert found.flops == 2 * ROWS // 4 * INNER * INNER


def test_a_move_that_hides_behind_products_counts_once() -> None:
    """A TPU's program names it where it starts, in each product that it hides behind, and where it is done."""
    gather = 'all-gather(%p), channel_id=1, replica_groups={{0,1}}, dimensions={0}, frontend_attributes={chain_id="5"}'
    text = (
        "HloModule m, num_partitions=2\n\n"
        f"%starts (p: f32[4]) -> f32[8] {{\n  %p = f32[4]{{0}} parameter(0)\n  %g = f32[8]{{0}} {gather}\n"
        '  ROOT %s = (f32[4]{0}, f32[8]{0}) custom-call(%g), custom_call_target="AsyncCollectiveStart"\n}\n\n'
        "%product (p: f32[4]) -> f32[8] {\n  %p = f32[4]{0} parameter(0)\n"
        f"  ROOT %g.1 = f32[8]{{0}} {gather}\n}}\n\n"
        f"%ends (p: f32[4]) -> f32[8] {{\n  %p = f32[4]{{0}} parameter(0)\n  %g.2 = f32[8]{{0}} {gather}\n"
        '  ROOT %d = f32[8]{0} custom-call(%p, %g.2), custom_call_target="AsyncCollectiveDone"\n}\n\n'
        "ENTRY %main (a: f32[4]) -> f32[8] {\n  %a = f32[4]{0} parameter(0)\n"
        "  %x = (f32[4]{0}, f32[8]{0}) fusion(%a), kind=kCustom, calls=%starts\n"
        "  %y = f32[8]{0} fusion(%a), kind=kCustom, calls=%product\n"
        "  ROOT %z = f32[8]{0} fusion(%a), kind=kCustom, calls=%ends\n}\n"
    )
    found = counts.counted(text)
    assert (found.results["all-gather"], found.moved["all-gather"], found.moves["all-gather"]) == (32, 16, 1)


def test_a_sum_of_which_each_chip_keeps_a_slice_is_scattered() -> None:
    """As a TPU has it: 3/4 of what is summed among four goes over links; a sum that all keep, twice as much."""
    whole, part, groups = "bf16[64,8]{1,0}", "bf16[16,8]{1,0}", "replica_groups={{0,1,2,3}}, to_apply=%add"
    text = (
        "HloModule m, num_partitions=4\n\n"
        f"%all-reduce-scatter.3.clone (p: bf16[64,8]) -> bf16[16,8] {{\n  %p = {whole} parameter(0)\n"
        f"  %sum = {whole} all-reduce(%p), channel_id=1, {groups}\n  %at = u32[] partition-id()\n"
        f"  %zero = u32[] constant(0)\n  ROOT %own = {part} dynamic-slice(%sum, %at, %zero)\n}}\n\n"
        f"ENTRY %main (a: bf16[64,8]) -> (bf16[16,8], bf16[64,8]) {{\n  %a = {whole} parameter(0)\n"
        f"  %x = {part} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.3.clone\n"
        f"  %y = {whole} all-reduce(%a), channel_id=2, {groups}\n"
        f"  ROOT %both = ({part}, {whole}) tuple(%x, %y)\n}}\n"
    )
    found = counts.counted(text)
    assert found.moved == {"reduce-scatter": 768, "all-reduce": 1536}
    assert found.results == {"reduce-scatter": 256, "all-reduce": 1024}


def test_a_loop_of_unknown_length_is_counted_as_told() -> None:
    def until(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda y: jnp.max(y) < 9.0, lambda y: y @ w, x)

    mesh = Mesh(np.array(jax.devices()[:1]), ("x",))
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((ROWS, INNER), (INNER, INNER))]
    text = jax.jit(until).lower(*shapes).compile().as_text() or ""
    assert mesh.size == 1
    one, many = counts.counted(text), counts.counted(text, 5)
    assert (one.unknown_loops, many.flops, one.flops) == (1, 5 * one.flops, 2 * ROWS * INNER * INNER)


@pytest.mark.parametrize(
    ("body", "trips"),
    [
        ("  %two = u32[] constant(2)\n  %i = u32[] add(%at, %two)\n", 4),
        ("  %i = u32[] fusion(%at), kind=kLoop, calls=%more\n", 4),
        ("  %one = u32[] constant(1)\n  %i = u32[] add(%at, %one)\n", 7),
    ],
)
def test_a_loop_may_count_by_two(body: str, trips: int) -> None:
    """From 0 while it is less than 7: TPUs multiply while they move a matrix, two rounds in a body."""
    carried = "(f32[4], u32[])"
    text = (
        "HloModule m, num_partitions=2\n\n"
        "%more (p: u32[]) -> u32[] {\n  %p = u32[] parameter(0)\n  %two = u32[] constant(2)\n"
        "  ROOT %sum = u32[] add(%p, %two)\n}\n\n"
        f"%body (p: {carried}) -> {carried} {{\n  %p = {carried} parameter(0)\n"
        "  %x = f32[4] get-tuple-element(%p), index=0\n  %at = u32[] get-tuple-element(%p), index=1\n"
        f"{body}  %y = f32[4] collective-permute(%x), source_target_pairs={{{{0,1}},{{1,0}}}}\n"
        f"  ROOT %t = {carried} tuple(%y, %i)\n}}\n\n"
        f"%condition (p: {carried}) -> pred[] {{\n  %p = {carried} parameter(0)\n  %seven = u32[] constant(7)\n"
        "  %at = u32[] get-tuple-element(%p), index=1\n"
        "  ROOT %less = pred[] compare(%at, %seven), direction=LT\n}\n\n"
        f"ENTRY %main (a: {carried}) -> {carried} {{\n  %a = {carried} parameter(0)\n"
        f"  ROOT %w = {carried} while(%a), condition=%condition, body=%body\n}}\n"
    )
    found = counts.counted(text)
    assert (found.moves["collective-permute"], found.unknown_loops) == (trips, 0)
    assert found.moved["collective-permute"] == 16 * trips


@pytest.mark.parametrize(
    ("line", "flops"),
    [
        ("bf16[8,32]{1,0} convolution(%a, %b), dim_labels=bf_io->bf", 2 * 8 * 16 * 32),
        # a batch of 4 products [8, 16] x [16, 32], as a TPU has it: a place of the window for each
        ("bf16[4,8,32]{2,1,0} convolution(%c, %d), window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf",
         4 * 2 * 8 * 16 * 32),
    ],
)  # fmt: skip
def test_products_that_are_convolutions(line: str, flops: int) -> None:
    text = (
        "HloModule m\n\nENTRY %main (a: bf16[8,16]) -> bf16[8,32] {\n"
        "  %a = bf16[8,16]{1,0} parameter(0)\n  %b = bf16[16,32]{1,0} parameter(1)\n"
        "  %c = bf16[4,8,16]{2,1,0} parameter(2)\n  %d = bf16[4,16,32]{2,1,0} parameter(3)\n"
        f"  ROOT %r = {line}\n}}\n"
    )
    assert counts.counted(text).flops == flops


def test_a_kernel_with_a_long_description_ends_nothing() -> None:
    """What comes after it in the loop still counts."""
    text = (
        "HloModule m\n\n%body (p: f32[8,8]) -> f32[8,8] {\n  %p = f32[8,8]{1,0} parameter(0)\n"
        '  %k = f32[8,8]{1,0} custom-call(%p), frontend_attributes={kernel_metadata={"a":\n"b"\n}}\n'
        "  ROOT %d = f32[8,8]{1,0} dot(%k, %p), lhs_contracting_dims={1}, rhs_contracting_dims={0}\n}\n\n"
        "ENTRY %main (a: f32[8,8]) -> f32[8,8] {\n  %a = f32[8,8]{1,0} parameter(0)\n"
        "  ROOT %w = f32[8,8]{1,0} while(%a), condition=%c, body=%body, "
        'backend_config={"known_trip_count":{"n":"5"}}\n}\n'
    )
    assert counts.counted(text).flops == 5 * 2 * 8**3


# ---------------------------------------------------------------------------------------------- without a compiler

QWEN3_8B = {
    "model_type": "qwen3", "rope_theta": 1e6, "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 12_288,
    "num_hidden_layers": 36, "num_attention_heads": 32, "head_dim": 128, "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}  # fmt: skip
EIGHT_B = architecture_of(QWEN3_8B, "8B")
SMALL = config_of("qwen3") | {"hidden_size": 64, "vocab_size": 512, "num_attention_heads": 4, "num_key_value_heads": 4}
ROUND = Work(
    prompts=8, group=4, prompt_length=8, new_tokens=24, epochs=3, parts=2, compute=Compute("float32", "layer", "plain")
)


def on_eight(axes: Axes, work: Work) -> Described:
    devices = np.array(jax.devices()).reshape(*axes)
    return Described(
        architecture_of(SMALL, "small"), Mesh(devices, axes._fields, axis_types=(AxisType.Auto,) * 3), work
    )


@pytest.mark.parametrize("axes", [Axes(1, 8, 1), Axes(2, 2, 2)], ids=Axes.text)
@pytest.mark.parametrize("rank", [0, 4])
def test_what_is_held_is_exact(axes: Axes, rank: int) -> None:
    """Trained weights, magnet, moments and base as the mesh divides them."""
    work = Work(rank=rank, given="bfloat16", compute=ROUND.compute)
    described, needed = on_eight(axes, work), estimate(architecture_of(SMALL, "small"), axes, work, CHIPS["v5e"]).memory

    def held(arrays: dict[str, Any]) -> int:
        return sum(math.prod(a.sharding.shard_shape(a.shape)) * a.dtype.itemsize for a in arrays.values())

    assert needed["trained weights"] == needed["moments"] == 2 * held(described.trained)
    assert needed.get("given weights", 0) == held(described.base)


def test_the_estimate_before_the_first_round_is_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """On accelerators, to the byte, of what is held and of what is there in passing."""
    axes, work = Axes(2, 2, 2), dataclasses.replace(ROUND, given="float32")
    policy = bridge.init(SMALL, jax.random.key(0), mesh=on_eight(axes, work).mesh, compute=work.compute)
    monkeypatch.setattr(memory, "_on_cpu", lambda _: False)
    rows = memory.Rows(work.length, work.rows // work.parts, work.rows, work.new_tokens, work.group)
    found = {name: size for name, size in memory.training(policy, rows, 2, kept=False).parts.items() if size}
    expected = estimate(policy.architecture, axes, work, CHIPS["v5e"]).memory
    assert found == {name: round(size) for name, size in expected.items()}
    judges = (LocalJudge(policy.architecture, rows=512, asked=True),)  # reads more than is learned from
    judged = memory.training(policy, rows, 2, kept=False, judges=judges).parts
    planned = held(policy.architecture, axes, dataclasses.replace(work, judges=judges)).during()["judging"]
    assert planned.pop("judge") > 0  # is loaded, so it is missing from what is free
    assert {name: size for name, size in judged.items() if size} == {name: round(n) for name, n in planned.items()}
    assert "what the judge reads" in judged


def test_bytes_are_at_most_a_tenth_above_those_of_programs_compiled_for_tpus() -> None:
    """Never below; of all weights and adapters, four meshes' kinds, sorted rows and not, as the results have them."""
    stored = json.loads((plan_bytes.RESULTS / "plan_bytes.json").read_text("utf-8"))["programs"]
    ratios = {
        name: sum(plan_bytes.said(plan_bytes.PROGRAMS[name]).values()) / found["compiled_bytes"]
        for name, found in stored.items()
    }
    assert set(ratios) == set(plan_bytes.PROGRAMS)
    assert min(ratios.values()) >= 1.0
    above = {name for name, ratio in ratios.items() if ratio > 1.1}
    assert above <= {"1b_lora_sorted", "1b_full_16"}  # .112 and .114, of 24
    assert max(ratios.values()) <= 1.12


def test_what_judges_read_is_never_more_than_is_said() -> None:
    """Compiled for TPUs, weights left out; on a v5e at most half above, on small slices of v5p two and a half times."""
    stored = json.loads((plan_bytes.RESULTS / "plan_bytes.json").read_text("utf-8"))["judges"]
    assert set(stored) == set(plan_bytes.JUDGES)
    for name, found in stored.items():
        ratio = plan_bytes.said_of_judge(plan_bytes.JUDGES[name])[1] / found["compiled_bytes"]
        assert 1.0 <= ratio <= (1.5 if found["topology"].startswith("v5e") else 2.6), name


def test_logits_and_the_inside_of_a_layer_are_not_there_at_once() -> None:
    """A vocabulary of a few words: the worse moment is in a layer; of a million: while logits are there."""
    axes, work = Axes(1, 8, 1), Work(rank=16, group=8, new_tokens=512, prompt_length=512)
    few, many = (dataclasses.replace(EIGHT_B, vocabulary=n) for n in (1_024, 2**20))
    in_layer, with_logits = (held(a, axes, work).learning for a in (few, many))
    assert in_layer["a layer gathered"] > 0
    assert "logits" not in in_layer
    assert with_logits["logits"] > 0
    assert "a layer gathered" not in with_logits
    assert with_logits["activations"] < in_layer["activations"]
    assert with_logits["head"] == 2 * 2**20 * EIGHT_B.width


def test_a_compiled_programs_bytes_are_its_arguments_results_and_what_it_makes_in_passing() -> None:
    """As well where JAX has kept the program: it would come back without the compiler's report."""
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    _, n = compiled_with_bytes(jax.jit(lambda x: x + 1).lower(x))
    assert n == 2 * 64 * 64 * 4
    for _ in range(2):
        jax.clear_caches()
        lowered = jax.jit(lambda x: jnp.sort(jnp.sort(x, axis=0), axis=1)).lower(x)
        lowered.compile()
        assert compiled_with_bytes(lowered)[1] > 2 * 64 * 64 * 4


def test_products_are_those_of_the_compiled_update() -> None:
    """On eight devices; never below, at most a tenth above."""
    axes = Axes(1, 4, 2)
    text = on_eight(axes, ROUND).lowered("update").compile().as_text() or ""
    needed = estimate(architecture_of(SMALL, "small"), axes, ROUND, CHIPS["v5e"])
    assert 1.0 <= needed.flops["update"] / counts.counted(text).flops <= 1.1


@pytest.mark.parametrize("axes", [Axes(1, 8, 1), Axes(1, 4, 2)], ids=Axes.text)
def test_a_weights_gradient_is_summed_once_a_part(axes: Axes) -> None:
    """Not for prompts and for their answers: three matrices of the MLP in each layer, part and step."""
    found, a = counts.counted(on_eight(axes, ROUND).lowered("update").compile().as_text() or ""), on_eight(axes, ROUND)
    width, mlp = a.architecture.width, a.architecture.mlp_width // axes.tensor
    summed = sum(found.shapes[f"all-reduce f32[{sizes}]"] for sizes in (f"{width},{mlp}", f"{mlp},{width}"))
    assert summed == ROUND.epochs * ROUND.parts * a.architecture.n_layers * 3 * width * mlp * 4


def test_rounds_that_are_replayed_multiply_the_update_and_what_is_kept_for_it_alone() -> None:
    plain, replayed = (
        estimate(architecture_of(SMALL, "small"), Axes(1, 4, 2), dataclasses.replace(ROUND, rounds=n), CHIPS["v5e"])
        for n in (1, 3)
    )
    assert replayed.flops["update"] > 3 * plain.flops["update"]
    assert replayed.flops["update"] < 3.5 * plain.flops["update"]
    assert replayed.flops["generation"] == plain.flops["generation"]
    more = {name for name, size in replayed.memory.items() if size != plain.memory[name]}
    assert more <= {"what is computed once"}


def test_the_search_knows_what_fits() -> None:
    """All weights of 8 billion do not fit 16 x 16 GB where eight share them; an adapter does; more chips are faster."""
    small, large = topology("v5e:4x4"), topology("v5e:8x8")
    work = Work(group=8, new_tokens=512)
    assert not choices(EIGHT_B, small, work, axes=Axes(2, 2, 4), parts=1)[0].fits
    adapter = Work(group=8, new_tokens=512, rank=16)
    found = choices(EIGHT_B, small, adapter, parts=4)
    fitting = [choice.estimate.round_in_turn for choice in found if choice.fits]
    assert len(fitting) > 10
    assert fitting == sorted(fitting)
    assert [choice.fits for choice in found] == sorted((choice.fits for choice in found), reverse=True)
    assert choices(EIGHT_B, large, adapter, parts=4, remat="layer")[0].estimate.round_in_turn < fitting[0]


SEVENTY_B = QWEN3_8B | {"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28_672}
SEVENTY_B |= {"num_attention_heads": 64}
NORMS = 80 * 2 * (8192 + 128) + 8192  # weights of norms, which are never divided


def test_a_judge_takes_the_memory_of_its_weights_as_they_lie() -> None:
    """Two bytes each, divided as the policy's; where the policy's mesh keeps a copy on each chip, all of them."""
    big, chip, work = architecture_of(SEVENTY_B, "70B"), CHIPS["h100"], Work(rank=16)
    judged, wide = (dataclasses.replace(work, judges=(LocalJudge(big, *each),)) for each in ((), ("float32",)))
    for axes, copies in ((Axes(1, 8, 1), 1), (Axes(2, 2, 2), 2), (Axes(8, 1, 1), 8)):
        alone, beside = (estimate(EIGHT_B, axes, each, chip) for each in (work, judged))
        assert beside.memory.pop("judge") == 2 * (copies * (count(big) - NORMS) // 8 + NORMS)
        assert beside.memory == alone.memory
    assert estimate(EIGHT_B, axes, wide, chip).memory["judge"] == 4 * count(big)
    found = choices(EIGHT_B, topology("h100:8"), judged)
    assert {choice.fits for choice in found if choice.axes.data == 8} == {False}
    assert found[0].fits
    assert any(choice.fits for choice in choices(EIGHT_B, topology("h100:8"), work) if choice.axes.data == 8)


def test_a_judge_that_the_policys_mesh_does_not_divide_lies_in_the_fewest_copies() -> None:
    few_heads = architecture_of(SEVENTY_B | {"num_key_value_heads": 2}, "70B")
    work, chips = Work(rank=16, judges=(LocalJudge(few_heads),)), topology("h100:8")
    (choice,) = choices(EIGHT_B, chips, work, axes=Axes(1, 1, 8), remat="layer", parts=1)
    assert choice.estimate.memory["judge"] == 2 * ((count(few_heads) - NORMS) // 8 + NORMS)


@pytest.mark.parametrize("axes", [Axes(1, 8, 1), Axes(1, 2, 4), Axes(8, 1, 1), Axes(2, 2, 2)], ids=Axes.text)
@pytest.mark.parametrize("asked", [False, True])
def test_what_a_judge_reads_takes_what_its_program_takes(axes: Axes, asked: bool) -> None:
    """Compiled on eight devices, weights left out: never below, at most a seventh above; scores are most of it."""
    config = SMALL | {"num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 512}
    judge = LocalJudge(architecture_of(config, "judge"), "float32", axes, rows=4, asked=asked, plain=True)
    work = Work(prompt_length=32, new_tokens=48)
    mesh = on_eight(axes, ROUND).mesh
    _, n_bytes = compiled_with_bytes(judging(judge, mesh, work))
    weights = estimate(judge.architecture, axes, Work(judges=(judge,)), CHIPS["v5e"]).memory["judge"]
    (said,) = (held(EIGHT_B, axes, dataclasses.replace(work, judges=(judge,))).during()[name] for name in ["judging"])
    read = sum(n for name, n in said.items() if "the judge" in name)
    assert 1.0 <= read / (n_bytes - weights) <= 8 / 7


def test_a_judge_on_chips_of_its_own_takes_nothing_of_the_policys() -> None:
    """Its weights and what it reads lie on four other chips; there the worst moment may be, and twice the seconds."""
    big, axes, chip = architecture_of(SEVENTY_B, "70B"), Axes(1, 8, 1), CHIPS["h100"]
    judges = {apart: LocalJudge(big, "bfloat16", Axes(1, 4, 1) if apart else None, apart) for apart in (False, True)}
    work = {apart: Work(rank=16, judges=(judge,)) for apart, judge in judges.items()}
    alone, (beside, apart) = (
        estimate(EIGHT_B, axes, Work(rank=16), chip),
        (estimate(EIGHT_B, axes, work[each], chip) for each in (False, True)),
    )
    assert apart.during["update"] == alone.during["update"]
    assert apart.during["generation"] == alone.during["generation"]
    assert "judging" not in apart.during
    assert apart.bytes == apart.during["judging elsewhere"] > 2 * count(big) / 4
    assert beside.during["judging"] > beside.during["update"] - alone.during["update"]
    assert apart.flops["judging"] == pytest.approx(2 * beside.flops["judging"], rel=1e-12)


def test_judges_read_one_after_the_other() -> None:
    """The weights of both are there, and of what they read the larger part; longer answers take more."""
    small, large = (LocalJudge(architecture_of(config, "judge")) for config in (QWEN3_8B, SEVENTY_B))
    axes, works = Axes(1, 8, 1), [Work(rank=16, judges=judges) for judges in ((small,), (large,), (small, large))]
    (one, other, both) = (held(EIGHT_B, axes, work) for work in works)
    assert both.judging == max(one.judging, other.judging, key=lambda parts: sum(parts.values()))
    assert both.state["judge"] == one.state["judge"] + other.state["judge"]
    longer = held(EIGHT_B, axes, dataclasses.replace(works[0], new_tokens=1024))
    assert sum(longer.judging.values()) > 2 * sum(one.judging.values())


# ------------------------------------------------------------------------------------------------------ the commands


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer, and beside it the configuration of a large one."""
    folder = tmp_path_factory.mktemp("plan")
    words = tokenizer(folder / "words")
    config = config_of("llama") | {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "vocab_size": 16,
        "num_key_value_heads": 4,
    }
    (words / "config.json").write_text(json.dumps(config))
    (folder / "large.json").write_text(json.dumps(QWEN3_8B))
    return bridge.save(bridge.init(words, jax.random.key(5)), folder / "tiny")


def test_a_plan_that_does_not_fit_is_refused_with_one_that_does(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "plan",
        str(model.parent / "large.json"),
        "--topology",
        "v5e:4x4",
        "--lora-r",
        "16",
        "--max-new-tokens",
        "1024",
    ]
    assert main([*words, "--mesh", "data=16", "--gradient-accumulation-steps", "1"]) == 2
    said = capsys.readouterr().err
    assert "GB more than there are" in said
    nearest = said.partition("the nearest that fits is ")[2].split()
    out = model.parent / "plan.json"
    assert main([*words, *nearest, "--estimate", "--output-file", str(out), "--price", "1.5"]) == 0
    plan, said = json.loads(out.read_text()), capsys.readouterr().out
    assert plan["estimate"]["bytes"] < plan["chip"]["memory"]
    hours = [500 * sum(plan["estimate"][name].values()) / 3600 for name in ("seconds", "in_turn")]
    assert plan["hours"] == pytest.approx(hours, rel=1e-12)
    assert plan["cost"] == pytest.approx([each * 16 * 1.5 for each in hours], rel=1e-12)
    chip_hours, cost = (" to ".join(f"{each * 16 * price:,.{n}f}" for each in hours) for price, n in ((1, 1), (1.5, 2)))
    assert f"{chip_hours} chip-hours, {cost} at 1.5" in said
    assert " ".join(nearest) == plan["options"]


def test_a_time_is_the_longest_wait_or_their_sum() -> None:
    """Of products, links and memory by hand; a chip with links ten times as fast gains at most what it waited."""
    axes, work, chip = Axes(1, 2, 4), Work(group=8, new_tokens=512, rank=16), CHIPS["v5e"]
    needed = estimate(EIGHT_B, axes, work, chip)
    waits = {
        "generation": [needed.flops["generation"] / 197e12, needed.moved["generation"] / 90e9, needed.read / 819e9],
        "update": [needed.flops["update"] / 197e12, needed.moved["update"] / 90e9],
    }
    for phase, each in waits.items():
        assert needed.seconds[phase] == pytest.approx(max(each), rel=1e-12)
        assert needed.in_turn[phase] == pytest.approx(sum(each), rel=1e-12)
    faster = estimate(EIGHT_B, axes, work, dataclasses.replace(chip, links=900e9))
    saved = needed.round_in_turn - faster.round_in_turn
    assert saved == pytest.approx(0.9 * sum(needed.moved.values()) / 90e9, rel=1e-9)


def test_the_search_shows_each_mesh_once(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--topology", "v5e:2x4", "--lora-r", "16", "--max-new-tokens", "512", "--search", "--estimate"]
    assert main(["plan", str(model.parent / "large.json"), *words]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if " GB over links  --mesh " in line]
    meshes = [row.partition("--mesh ")[2].split()[0] for row in rows]
    assert len(set(meshes)) == len(meshes) == 10  # ordered factors of 8, in three places
    in_turn = [float(row.split(" to ")[1].split()[0]) for row in rows if "too large" not in row]
    assert in_turn == sorted(in_turn)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--topology", "v9:4x4"], "expected a topology such as v5e:4x4"),
        (["--topology", "v5e:4x4", "--mesh", "fsdp=4"], "expected --mesh to name"),
        (["--topology", "v5e:4x4", "--mesh", "tensor=16"], "does not divide the model evenly"),
        (["--topology", "v5e:2x2"], "nothing fits"),
    ],
)
def test_plans_that_make_no_sense(
    words: list[str], expected: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(model.parent / "large.json"), *words, "--estimate"]) == 2
    assert expected in capsys.readouterr().err


def test_a_plan_counts_its_judge_and_is_refused_where_that_does_not_fit(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """141 GB in bfloat16 on four chips of 16.9 GB do not fit, on eight of 79 GB they do; twice that in float32."""
    big, out = model.parent / "big.json", model.parent / "judged.json"
    words = ["plan", str(model.parent / "large.json"), "--lora-r", "16", "--estimate", "--judge", str(big)]
    weights = count(architecture_of(SEVENTY_B, "70B"))
    for dtype, size in (({}, 2), ({"dtype": "float32"}, 4), ({"torch_dtype": "float16"}, 2), ({"dtype": 7}, 2)):
        big.write_text(json.dumps(SEVENTY_B | dtype))
        assert main([*words, "--topology", "h100:8", "--mesh", "fsdp=8", "--output-file", str(out)]) == 0
        held = json.loads(out.read_text())["estimate"]["memory"]["judge"]
        assert held == size * ((weights - NORMS) // 8 + NORMS)
        assert f"judge {held / 1e9:.2f}" in capsys.readouterr().out
    assert main([*words, "--topology", "v5e:2x2"]) == 2
    assert "nothing fits" in capsys.readouterr().err
    assert main([*words, "--topology", "h100:8", "--mesh", "data=8", "--search"]) == 2
    said = capsys.readouterr()
    assert "too large by" in said.out
    assert "GB more than there are" in said.err


def test_a_plan_counts_a_judge_on_chips_of_its_own(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four of eight are the policy's then; with all eight the judge lies as it is told, beside the policy."""
    large, out = str(model.parent / "large.json"), model.parent / "apart.json"
    words = ["plan", large, "--lora-r", "16", "--estimate", "--judge", large, "--topology", "v5p:2x2x2"]
    assert main([*words, "--judge-mesh", "fsdp=4", "--output-file", str(out)]) == 0
    apart, said = json.loads(out.read_text()), capsys.readouterr().out
    assert math.prod(apart["mesh"].values()) == 4
    assert "a judge on 4 more: fsdp=4" in said
    assert "judge" not in apart["estimate"]["memory"] or "judging elsewhere (" in said
    assert main([*words, "--judge-mesh", "fsdp=4,tensor=2", "--output-file", str(out)]) == 0
    beside = json.loads(out.read_text())
    assert math.prod(beside["mesh"].values()) == 8
    assert beside["estimate"]["during"].keys() == {"update", "generation", "judging"}
    assert apart["estimate"]["during"].keys() == {"update", "generation", "judging elsewhere"}
    capsys.readouterr()
    for mesh, expected in (("fsdp=16", "at most 8 devices"), ("tensor=3", "divide the judge"), ("4", "--judge-mesh")):
        assert main([*words, "--judge-mesh", mesh]) == 2
        assert expected in capsys.readouterr().err
    assert main([*words[:5], *words[7:], "--judge-mesh", "fsdp=4"]) == 2
    assert "expected --judge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("judge", "refused"), [("big", True), ("https://host/v1", False), ("big --judge-mesh fsdp=4", False)]
)
def test_training_counts_a_judge_on_its_own_chips_and_no_other(
    judge: str, refused: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight chips of 16.9 GB, of which 141 GB of a judge leave less than nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mesh_choice, "chip_of", lambda _: CHIPS["v5e"])
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "config.json").write_text(json.dumps(SEVENTY_B))
    name, _, mesh = judge.partition(" --judge-mesh ")
    given = {"model_name_or_path": str(model), "dataset_name": tmp_path / "d.jsonl", "output_dir": tmp_path}
    options = Train(**given, judge=(name,), judge_mesh=mesh or None)
    with pytest.raises(UsageError, match="nothing fits") if refused else nullcontext():
        assert mesh_choice.chosen(options, lambda _: None, local(options)).mesh is not None


def test_training_on_several_accelerators_takes_the_first_choice(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that goes on keeps it, whatever would be chosen now."""
    monkeypatch.setattr(mesh_choice, "chip_of", lambda _: CHIPS["v5e"])
    said: list[str] = []
    options = Train(model_name_or_path=str(model), dataset_name=tmp_path / "d.jsonl", output_dir=tmp_path)
    found = mesh_choice.chosen(options, said.extend)
    mesh = mesh_choice.mesh_of(found.mesh)
    assert mesh is not None
    assert mesh.size == 8
    assert str(found.mesh) in said[0]
    (tmp_path / "config.yaml").write_text("mesh: data=8\nremat: none\ngradient_accumulation_steps: 2\n")
    again = mesh_choice.chosen(dataclasses.replace(options, resume=True), said.extend)
    assert (again.mesh, again.remat, again.gradient_accumulation_steps) == ("data=8", "none", 2)
    monkeypatch.setattr(mesh_choice, "chip_of", lambda _: None)  # a processor that pretends to be several devices
    assert mesh_choice.chosen(options, said.extend) == options


@pytest.mark.parametrize("sizes", [(4, 4), (8, 2), (2, 8), (16,), (2, 2, 4)])
def test_a_mesh_may_split_an_axis_of_the_torus(sizes: tuple[int, ...]) -> None:
    """Sixteen chips, 4 x 4: each is there once, and along the last axis of the mesh the next one is a neighbour."""
    chips = [
        SimpleNamespace(platform="tpu", device_kind="TPU v5 lite", coords=(x, y, 0), core_on_chip=0, process_index=0)
        for y in range(4)
        for x in range(4)
    ]
    found = mesh_choice.arranged(sizes, chips)
    assert found.shape == sizes
    assert sorted(chip.coords for chip in found.flat) == sorted(chip.coords for chip in chips)
    if sizes[-1] <= 4:
        at = np.array([chip.coords for chip in found.flat]).reshape(-1, sizes[-1], 3)
        assert (np.abs(np.diff(at, axis=1)).sum(axis=-1) == 1).all()


def test_several_processes_are_told_that_they_need_a_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mesh of one device all but the first would have nothing, and wait for ever."""
    assert mesh_choice.mesh_of(None) is None
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(UsageError, match="devices of all 4 processes, such as --mesh fsdp=8"):
        mesh_choice.mesh_of(None)


def test_a_judge_is_divided_as_the_policy_is(model: Path, tmp_path: Path) -> None:
    """An eighth on each device; the same verdicts as on one; and devices of its own where it is told so."""
    policy, words = bridge.load(model), tokenizer_of(str(model))
    assert words is not None
    training = PreferenceTraining(policy, text_layout(words, 64), words, 1)
    folder = training.export(training.init(jax.random.key(1))).save(tmp_path / "judge")
    given = {
        "model_name_or_path": str(model),
        "dataset_name": tmp_path,
        "output_dir": tmp_path,
        "judge": (str(folder),),
    }
    alone, divided = judge_of(Train(**given)), judge_of(Train(**given, mesh="fsdp=8"))
    held: dict[Any, int] = dict.fromkeys(jax.devices(), 0)
    matrices = {name: array for name, array in divided.policy.arrays().items() if "norm" not in name}
    for array in matrices.values():
        for shard in array.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert set(held.values()) == {sum(array.nbytes for array in matrices.values()) // 8}
    asked = (["a", "b", "ab"], ["a b", "c", "b"], ["c", "a a", "b c"])
    np.testing.assert_allclose(divided(*asked), alone(*asked), atol=1e-6)
    assert np.ptp(alone(*asked)) > 1e-3
    own = judge_of(Train(**given, mesh="fsdp=4", judge_mesh="fsdp=2,tensor=2"))
    assert list(own.policy.mesh.devices.flat) == jax.devices()[4:]
    assert mesh_choice.policy_devices(Train(**given, mesh="fsdp=4", judge_mesh="fsdp=2,tensor=2")) == jax.devices()[:4]

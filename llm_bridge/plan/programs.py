"""The programs of a round, from shapes alone: what `Method` runs, lowered for a mesh of devices that need not be there.

described = Described(architecture, mesh, work)
described.lowered("update").compile()
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from llm_bridge.judges import generative, preference_model
from llm_bridge.model import sharding
from llm_bridge.model.architecture import Architecture
from llm_bridge.model.compute import Compute
from llm_bridge.model.decoder import Decoder
from llm_bridge.model.weights import weights as table_of
from llm_bridge.plan.estimate import columns_of
from llm_bridge.plan.work import LINEAR, LocalJudge, Work
from llm_bridge.policy import generate, layout, scoring
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.sampling import Settings
from llm_bridge.train import learning, packing
from llm_bridge.train.arena import Samples
from llm_bridge.train.objective import Judged, Numbers, PolicyGradient
from llm_bridge.train.train_state import Counters

GENERATOR = "threefry2x32"


class Described:
    """A model on a mesh and a round's work, as shapes and places."""

    def __init__(self, architecture: Architecture, mesh: Mesh, work: Work):
        sharding.check(architecture, mesh)
        self.architecture, self.mesh, self.work = architecture, mesh, work
        self.decoder = Decoder(architecture, work.compute, mesh, adapter_scale=float(work.rank > 0))

    def lowered(self, job: str) -> Any:
        """The program of a job: "reshard", "generate", "log_probs" or "update"."""
        jobs: dict[str, Callable[[], Any]] = {
            "reshard": self._reshard,
            "generate": self._generate,
            "log_probs": self._log_probs,
            "update": self._update,
        }
        return jobs[job]()

    @cached_property
    def trained(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Weights that are trained, in float32."""
        table = table_of(self.architecture)
        if not self.work.rank:
            return {name: self._weight(name, weight.full_shape, "float32") for name, weight in table.items()}
        found: dict[str, jax.ShapeDtypeStruct] = {}
        for name, weight in table.items():
            if name.removeprefix("layers.") in (self.work.targets or LINEAR) and weight.stack:
                *stack, into, out = weight.full_shape
                for part, shape in (("a", (*stack, into, self.work.rank)), ("b", (*stack, self.work.rank, out))):
                    found[f"{name}.lora_{part}"] = self._weight(f"{name}.lora_{part}", shape, "float32")
        return found

    @cached_property
    def base(self) -> dict[str, jax.ShapeDtypeStruct]:
        """All other weights."""
        if not self.work.rank:
            return {}
        table = table_of(self.architecture)
        return {name: self._weight(name, weight.full_shape, self.work.given) for name, weight in table.items()}

    def _weight(self, name: str, shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
        return self._array(shape, jnp.dtype(dtype), sharding.named(self.architecture, name, self.mesh))

    def _array(self, shape: tuple[int, ...], dtype: Any, place: NamedSharding | None = None) -> Any:
        """One that every chip has, if no place is said."""
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place or sharding.whole(self.mesh))

    def _of_rows(self, n: int, length: int, dtype: Any) -> Any:
        even = n % sharding.n_row_shares(self.mesh) == 0
        return self._array((n, length), dtype, sharding.rows(self.mesh, 2) if even else None)

    @cached_property
    def _drawing(self) -> tuple[Decoder, Any]:
        """The decoder and its weights where rows are drawn."""
        everything = self.base | self.trained
        if self.mesh.size == 1:
            return self.decoder, everything
        item = jnp.dtype(self.decoder.compute.dtype or everything["embedding"].dtype)
        mesh = layout.drawing_mesh(self.architecture, self.mesh, self.work.rows, item.itemsize)
        there = replace(self.decoder, mesh=mesh)
        made = jax.eval_shape(layout.bring(there, tuple(everything), item), everything)
        places = {name: sharding.named(self.architecture, name, mesh) for name in everything}
        return there, {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=places[name]) for name, a in made.items()}

    def _reshard(self) -> Any:
        there, _ = self._drawing
        everything = self.base | self.trained
        item = jnp.dtype(self.decoder.compute.dtype or everything["embedding"].dtype)
        return layout.bring(there, tuple(everything), item).lower(everything)

    def _generate(self) -> Any:
        decoder, weights = self._drawing
        work, mesh = self.work, decoder.mesh
        n_shares, copies = (
            sharding.n_row_shares(mesh),
            generate.copies_of(
                [[i] for i in range(work.prompts) for _ in range(work.group)], sharding.n_row_shares(decoder.mesh)
            ),
        )
        n = -(-work.rows // copies // n_shares) * n_shares

        def whole(shape: tuple[int, ...], dtype: Any) -> Any:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.whole(mesh))

        prompts = (
            jax.ShapeDtypeStruct((n, work.prompt_length), jnp.int32, sharding=sharding.rows(mesh, 2)),
            jax.ShapeDtypeStruct((n,), jnp.int32, sharding=sharding.rows(mesh, 1)),
        )
        numbers = (((2,), jnp.uint32), ((), jnp.int32), ((), jnp.float32), ((), jnp.int32), ((), jnp.float32))
        settings: Any = Settings(*(whole(*number) for number in (*numbers, ((4, 1), jnp.int32))))
        shape = generate.Shape(work.new_tokens, False, False, 0, GENERATOR, copies)
        return generate.run.lower(decoder, shape, weights, prompts, settings)

    def _log_probs(self) -> Any:
        n_rows, length = self.work.rows // self.work.parts, self.work.length
        share = -(-n_rows // sharding.n_row_shares(self.mesh))
        chunk = scoring.chunk_length(share, length - 1, self.architecture.vocabulary)
        tokens, mask = self._of_rows(n_rows, length, jnp.int32), self._of_rows(n_rows, length, jnp.bool_)
        return scoring.log_probs.lower(self.decoder, self.base | self.trained, tokens, mask, chunk)

    def _update(self) -> Any:
        work, trained = self.work, self.trained
        n_trained = sum(math.prod(array.shape) for array in trained.values())
        optimizer = learning.adam(0.9, 0.999, 0.16 / n_trained**0.5, None, work.first_moment)
        given = (self.decoder, PolicyGradient(), optimizer, work.epochs, work.prompts // work.parts, work.new_tokens)
        learner, samples = learning.Learner(*given), self._samples()
        if tiles := self._tiles():
            learner, samples = packing.PackedLearner(*given, shapes=tiles), self._packed(tiles)

        def placed(path: Any, leaf: Any) -> Any:
            return self._array(leaf.shape, leaf.dtype, trained[path[-1].key].sharding if leaf.ndim else None)

        moments = jax.tree_util.tree_map_with_path(placed, jax.eval_shape(optimizer.init, trained))
        integer, real = self._array((), jnp.int32), self._array((), jnp.float32)
        carried = (trained, moments, Counters(integer, integer, real))
        pairs = (work.prompts, work.group, work.group)
        judged: Any = Judged(self._array(pairs[:2], jnp.float32), self._array(pairs, jnp.float32))
        others = (self.base, trained if work.has_magnet else {}, trained if work.watch_start else {})
        program: Any = sharding.program(type(learner).steps, learner, carried)
        return program.lower(carried, samples, judged, Numbers(real, real), real, others)

    def _samples(self) -> Samples:
        kinds = (jnp.int32, jnp.bool_, jnp.bool_, jnp.float32)
        return Samples(*(self._of_rows(self.work.rows, self.work.length, dtype) for dtype in kinds))

    def _tiles(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each tile that responses are learned in."""
        if not self.decoder.shares_prompts:
            return ()
        gathers = dict(self.mesh.shape).get("fsdp", 1) > 1
        return packing.shapes_of(self._rows_of_share(), bucket(self.work.new_tokens, 1), gathers)

    def _rows_of_share(self) -> int:
        """Of a part, filled up."""
        return -(-self.work.rows // self.work.parts // sharding.n_row_shares(self.mesh))

    def _packed(self, tiles: tuple[tuple[int, int], ...]) -> packing.Packed:
        """A round's rows, sorted by length, as shapes."""
        work, n_shares, b = self.work, sharding.n_row_shares(self.mesh), self._rows_of_share()
        same = scoring.shared_rows(work.rows // work.parts, work.group, n_shares)

        def rows(shape: tuple[int, ...], dtype: Any) -> Any:
            shape = (work.parts, *shape)
            return self._array(shape, dtype, sharding.rows(self.mesh, len(shape), rows_at=1))

        prompts, own, each = (n_shares * b // same, work.prompt_length), (n_shares, b, tiles[0][1]), (n_shares, b)
        shapes: Any = [prompts, prompts, own, own, own, each, each, each]
        kinds = (*[jnp.int32, jnp.bool_] * 2, jnp.float32, jnp.int32, jnp.int32, jnp.float32)
        table = self._array((work.parts, -(-b // tiles[0][0])), jnp.int32)
        arrays = [rows(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]
        return packing.Packed._make([*arrays, table, table, self._array((work.parts,), jnp.int32)])


def judging(judge: LocalJudge, mesh: Mesh, work: Work) -> Any:
    """The program in which a judge reads as many of its longest questions as it does at a time, lowered for a mesh."""
    decoder = Decoder(judge.architecture, Compute(judge.dtype, attention="plain" if judge.plain else "auto"), mesh)

    def array(shape: tuple[int, ...], dtype: Any, place: NamedSharding | None = None) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place or sharding.whole(mesh))

    weights = {
        name: array(weight.full_shape, jnp.dtype(judge.dtype), sharding.named(judge.architecture, name, mesh))
        for name, weight in table_of(judge.architecture).items()
    }
    shape = judge.rows * sharding.n_row_shares(mesh), columns_of(judge, work)
    tokens, mask = (array(shape, dtype, sharding.rows(mesh, 2)) for dtype in (jnp.int32, jnp.bool_))
    if judge.asked:
        return generative.log_odds.lower(decoder, weights, tokens, mask, array((2,), jnp.int32))
    head = array((judge.architecture.width,), jnp.float32)
    return preference_model.rated.lower(decoder, weights, head, tokens, mask)

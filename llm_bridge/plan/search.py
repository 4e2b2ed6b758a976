"""Which mesh, in how many parts, and what to recompute: every choice that a model allows, the fastest first.

The fastest is the one with the least seconds if moves over links do not hide behind products. How much hides is up to
the compiler; the sums of `tensor` can hardly hide, since the next product needs them. Ranking by what is left if all
hides would take links for free up to the time of the products.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.compute import Remat
from llm_bridge.model.sharding import RULES
from llm_bridge.model.weights import weights as table_of
from llm_bridge.plan.estimate import Estimate, estimate
from llm_bridge.plan.hardware import Topology
from llm_bridge.plan.work import Axes, Work


@dataclass(frozen=True)
class Choice:
    """One way to run a round.

    Attributes:
        axes: of the mesh.
        work: the round, with its parts and what it recomputes.
        estimate: what that needs.
        fits: whether the chips have the memory.
    """

    axes: Axes
    work: Work
    estimate: Estimate
    fits: bool

    def text(self) -> str:
        """As it is typed."""
        parts = f" --gradient-accumulation-steps {self.work.parts}" if self.work.parts > 1 else ""
        return f"--mesh {self.axes.text()}{parts} --remat {self.work.compute.remat}"


def choices(
    a: Architecture,
    topology: Topology,
    work: Work,
    *,
    axes: Axes | None = None,
    remat: Remat | None = None,
    parts: int | None = None,
) -> list[Choice]:
    """All ways to run a round on these chips: those that fit first, the fastest of them first; then the smallest.

    Args:
        a: the model.
        topology: the chips.
        work: the round; its parts and what it recomputes are chosen where they are not given, and so is where a judge
            lies: as the policy does, if that divides it.
        axes: of the mesh; None to choose.
        remat, parts: None to choose.
    """
    meshes = [axes] if axes else list(meshes_of(a, topology.n_chips))
    found = []
    for each in meshes:
        judges = tuple(one._replace(axes=one.axes or as_the_policy(one.architecture, each)) for one in work.judges)
        for n in [parts] if parts else [n for n in range(1, work.prompts + 1) if work.prompts % n == 0]:
            for kept in [remat] if remat else get_args(Remat):
                own = replace(work, parts=n, compute=replace(work.compute, remat=kept), judges=judges)
                needed = estimate(a, each, own, topology.chip)
                found.append(Choice(each, own, needed, needed.bytes <= topology.chip.memory))
    return sorted(found, key=_order)


def _order(choice: Choice) -> tuple[bool, float, float]:
    needed = choice.estimate
    return (not choice.fits, needed.round_in_turn if choice.fits else needed.bytes, needed.bytes)


def meshes_of(a: Architecture, n_chips: int) -> Iterator[Axes]:
    """Every mesh of so many chips that divides the model."""
    for tensor in _divisors(n_chips):
        for fsdp in _divisors(n_chips // tensor):
            axes = Axes(n_chips // tensor // fsdp, fsdp, tensor)
            if divides(a, axes):
                yield axes


def divides(a: Architecture, axes: Axes) -> bool:
    """Whether every weight can be divided evenly, and heads stay whole."""
    sizes = axes._asdict()
    for weight in table_of(a).values():
        for size, axis in zip(weight.full_shape, weight.full_axes, strict=True):
            if size % sizes.get(RULES[axis] or "", 1):
                return False
    return a.n_kv_heads % axes.tensor == 0


def as_the_policy(judge: Architecture, axes: Axes) -> Axes:
    """The policy's axes, if they divide a judge; else those of `fewest_copies`."""
    return axes if divides(judge, axes) else fewest_copies(judge, axes.n_chips)


def fewest_copies(judge: Architecture, n_chips: int) -> Axes:
    """The axes of so many chips among which a judge is divided the most, whole layers first."""
    return min(meshes_of(judge, n_chips), key=lambda axes: (axes.data, axes.tensor))


def _divisors(n: int) -> list[int]:
    return [i for i in range(1, n + 1) if n % i == 0]

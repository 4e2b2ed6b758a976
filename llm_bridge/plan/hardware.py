"""Chips and their published peaks, and what a topology is called.

Sources: Cloud TPU's system architecture pages (v5e, v5p, v6e); NVIDIA's data sheets (A100 80 GB SXM, H100 SXM).
`links` is what a mesh axis of a slice moves in one direction: two links of a torus on a TPU, NVLink's half on a GPU, of
which collectives reach about nine tenths on TPUs and eight tenths on GPUs; that is put in. Memory is what XLA gives a
program.
"""

import math
import re
from dataclasses import dataclass

from llm_bridge.model.architecture import BridgeError


@dataclass(frozen=True)
class Chip:
    """One chip's peaks.

    Attributes:
        name: as a topology begins.
        memory: bytes a program may have.
        flops: of matrix products in bfloat16, a second.
        bandwidth: bytes of its memory, a second.
        links: bytes over links along one axis of a mesh, a second.
        is_tpu: whether a compiler for it may be at hand.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    links: float
    is_tpu: bool = True


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 63 * 2**28, 197e12, 819e9, 90e9),
        Chip("v5p", 95 * 10**9, 459e12, 2765e9, 180e9),
        Chip("v6e", 125 * 2**28, 918e12, 1640e9, 200e9),
        Chip("a100", 79 * 10**9, 312e12, 2039e9, 240e9, False),
        Chip("h100", 79 * 10**9, 989e12, 3350e9, 360e9, False),
    )
}


@dataclass(frozen=True)
class Topology:
    """So many chips of a kind.

    Attributes:
        chip: the kind.
        n_chips: how many.
        text: as it was written.
    """

    chip: Chip
    n_chips: int
    text: str


def topology(text: str) -> Topology:
    """What "v5e:4x4" or "h100:8" means.

    Raises:
        BridgeError: the chip is not known, or the rest is no size.
    """
    kind, _, size = text.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){0,2}", size):
        known = ", ".join(CHIPS)
        raise BridgeError(f"expected a topology such as v5e:4x4 or h100:8, of {known}, got {text!r}")
    return Topology(CHIPS[kind], math.prod(map(int, size.split("x"))), text)


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX calls so; None if it is not known."""
    short = device_kind.lower().replace(" ", "")
    names = {"v5lite": "v5e", "v5e": "v5e", "v5p": "v5p", "v5": "v5p", "v6": "v6e", "a100": "a100", "h100": "h100"}
    return next((CHIPS[name] for part, name in names.items() if part in short), None)

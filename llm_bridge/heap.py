"""Memory that a computation on a CPU has freed stays with the process, up to a limit.

XLA asks malloc for the memory of a call at once and frees it at its end. glibc takes blocks above a threshold from the
system and gives them back, so that every call has each of its pages of 4 KiB made and cleared again: for a small model
an eighth of the time of a gradient. Blocks up to `KEPT` are kept here instead, and at most as much of them unused.

That is a setting of the whole process, so any setting of the user's own comes first: with MALLOC_MMAP_THRESHOLD_,
MALLOC_TRIM_THRESHOLD_ or a tunable of glibc.malloc in the environment nothing is changed (`man mallopt`).
"""

import ctypes
import os
import platform
from collections.abc import Mapping
from functools import cache

KEPT = 2**26  # bytes; the largest heap that glibc gives a thread
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of settings, of glibc's malloc.h
OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


@cache
def keep() -> bool:
    """Keep freed memory from now on; whether that could be set."""
    if platform.libc_ver()[0] != "glibc" or is_set(os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, KEPT)) and bool(mallopt(TRIM_THRESHOLD, KEPT))


def is_set(variables: Mapping[str, str]) -> bool:
    """Whether an environment has settings of its own for malloc."""
    return any(name in variables for name in OWN_SETTINGS) or "glibc.malloc" in variables.get("GLIBC_TUNABLES", "")

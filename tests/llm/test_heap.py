"""Freed memory that stays with the process."""

import ctypes
import platform
import resource

import pytest

from llm_bridge import heap

PAGE = 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_freed_block_is_used_again_without_new_pages() -> None:
    """A block above the 32 MiB from which glibc by itself gives every block back."""
    libc, size = ctypes.CDLL(None), 40 * 2**20
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    assert heap.keep()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = libc.malloc(size)
        ctypes.memset(block, 1, size)
        libc.free(block)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < size / PAGE / 10


@pytest.mark.parametrize(
    ("variables", "own"),
    [
        ({"HOME": "/root"}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, True),
        ({"GLIBC_TUNABLES": "glibc.rtld.nns=4"}, False),
    ],
)
def test_settings_of_the_environment_come_first(variables: dict[str, str], own: bool) -> None:
    assert heap.is_set(variables) is own

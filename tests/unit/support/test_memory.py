"""Memory that was freed goes back to the system."""

import ctypes
from pathlib import Path

import pytest

from refine_export.support import memory


def resident_mib() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def test_freed_blocks_go_back() -> None:
    if memory._trim() is None or not Path("/proc/self/status").exists():
        pytest.skip("needs glibc's malloc_trim")
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(2**16) for _ in range(512)]  # below the size that glibc maps by itself
    for block in blocks:
        ctypes.memset(block, 1, 2**16)
    for block in blocks[:-1]:  # the last one keeps the end of the heap from shrinking by itself
        libc.free(block)
    kept = resident_mib()
    memory.return_freed_memory()
    assert resident_mib() < kept - 20
    libc.free(blocks[-1])


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", lambda: None)
    memory.return_freed_memory()

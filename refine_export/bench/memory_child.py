"""Peak memory of one subject, in a process of its own; `python -m` runs this module there."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refine_export.bench.subjects import Subject, call_of, on_gpu, open_subject
from refine_export.runners.base import Arrays
from refine_export.support.child_process import Report, run_child, serve
from refine_export.support.imports import import_if_installed
from refine_export.support.progress import Silent

RUNS = 2
"""Runs after which the peak is read: memory that the first one keeps counts beside that of the second."""
TIME_LIMIT_S = 3600


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory, in MiB."""

    peak_mib: float | None
    """Resident memory of the process, with libraries, weights and feeds; None on systems without /proc."""
    gpu_mib: float | None
    """Memory of the GPU that the subject took and other programs took meanwhile; None on a CPU."""


def measure_memory(subject: Subject, feeds: Arrays) -> Memory:
    """Load a subject in a new process, and run it there.

    Raises:
        RefineExportError: what the process raised, such as `child-ended` where there is not enough memory.
    """
    with tempfile.TemporaryDirectory() as name:
        np.savez(Path(name) / "feeds.npz", **feeds)  # type: ignore[arg-type]  # numpy's stub has a keyword of its own
        request = dataclasses.asdict(subject)
        answer = run_child(__name__, request, Path(name), Silent(), time_limit_s=TIME_LIMIT_S)
    return Memory(**answer)


def _measured(request: Mapping[str, Any], folder: Path, report: Report) -> dict[str, float | None]:
    with np.load(folder / "feeds.npz") as arrays:
        feeds = dict(arrays)
    subject = Subject(**request)
    before = _gpu_mib() if subject.for_gpu else None
    with open_subject(subject) as runner:
        call = call_of(runner, feeds)
        for _ in range(RUNS):
            call()
        after = _gpu_mib() if on_gpu(runner) else None
    return {"peak_mib": _peak_mib(), "gpu_mib": None if before is None or after is None else after - before}


def _gpu_mib() -> float | None:
    """Return the memory in use of the GPU; CUDA's own part is in use after the first call."""
    torch = import_if_installed("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return float(total - free) / 2**20


def _peak_mib() -> float | None:
    """Return the peak of the resident memory since the program began.

    `resource.getrusage` has the memory of the process that started this one as its own peak.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 1024 if found else None


if __name__ == "__main__":
    serve(_measured)

"""Timing caches on disk: TensorRT's own bytes, one file per version and GPU, replaced where TensorRT rejects them.

trtexec and Polygraphy read the same files. Checked against the API documentation of TensorRT 10.12 to 11.4; not run.
Optimization level 0 does not look at timing caches, and TensorRT for RTX has nothing to time at build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.engine.bindings import Log, required
from refine_export.engine.machine import Machine
from refine_export.errors import RequestError, UnavailableError
from refine_export.support.files import write_bytes

if TYPE_CHECKING:
    import tensorrt as trt


def timing_cache_path(folder: Path, machine: Machine) -> Path:
    """Return where the timings of a machine lie, such as `11.4.0.106-NVIDIA-H200-sm9.0.timing`."""
    name = f"{machine.tensorrt}-{machine.gpu}-sm{machine.capability}"
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.timing"


def set_timing_cache(config: trt.IBuilderConfig, path: Path, log: Log) -> str | None:
    """Give a build the timings of earlier ones, or an empty cache to fill.

    Args:
        config: of the build.
        path: `timing_cache_path`.
        log: for the reason of a rejection.

    Returns:
        A note where the build begins with an empty cache, and why; else None.

    Raises:
        UnavailableError: `tensorrt-failed`; TensorRT does not even take an empty cache.
    """
    note = f"no timing cache {path.name} yet: the first build takes longer"
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if content:
        cache = config.create_timing_cache(content)  # None: damaged; set_timing_cache gives False: of another GPU
        if cache is not None and config.set_timing_cache(cache, False):
            return None
        note = f"TensorRT rejects the timing cache {path.name}, which is replaced{log.last_errors(1)}"
    empty = required(config.create_timing_cache(b""), "make a timing cache", log)
    if not config.set_timing_cache(empty, False):
        raise UnavailableError(
            f"TensorRT does not take an empty timing cache{log.last_errors()}", code="tensorrt-failed"
        )
    return note


def save_timing_cache(config: trt.IBuilderConfig, path: Path) -> str | None:
    """Write the timings of a build and those that it began with; of builds at the same time, the last one's stay.

    Returns:
        A note where they could not be written, which does not harm the engine; else None.
    """
    cache = config.get_timing_cache()
    content = None if cache is None else cache.serialize()
    if content is None:
        return "TensorRT kept no timings: no timing cache was written"
    try:
        write_bytes(path, bytes(content))
    except RequestError as error:
        return f"the timing cache was not saved: {error}"
    return None

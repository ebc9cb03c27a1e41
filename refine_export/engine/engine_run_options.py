"""Options of running engines, for every stage that runs one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

_PANEL: Final = "Engines"


@dataclass(frozen=True, kw_only=True)
class EngineRunOptions:
    """Options of running engines; those that begin with `rtx` are for engines of TensorRT for RTX."""

    allow_host_code: bool = field(default=False, metadata={"flag": "--allow-host-code", "panel": _PANEL})
    """Run version-compatible engines, which bring code that runs on this host: for engines that you trust as you
    trust a program."""
    cuda_graph: bool = field(default=False, metadata={"flag": "--cuda-graph", "panel": _PANEL})
    """Record an engine's kernels once for each shape, and launch them together from then on."""
    rtx_kernels: Literal["eager", "lazy", "none"] = field(
        default="eager", metadata={"flag": "--rtx-kernels", "panel": _PANEL}
    )
    """When kernels for one shape of a dynamic engine are compiled: before its first run, in the background while
    general kernels run (lazy: two runs may differ), or never."""
    rtx_cache: bool = field(default=True, metadata={"flag": "--rtx-cache/--no-rtx-cache", "panel": _PANEL})
    """Keep compiled kernels beside the engine, in NAME.kernels, for the next start."""

"""Options of an engine build; there is no precision among them, because precision is in the ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.signature import LARGEST_BATCH, check_range, check_sizes_option, parse_size

Fallback = Literal["native", "unfused", "gather", "fp32"]
FALLBACKS: tuple[Fallback, ...] = ("native", "unfused", "gather", "fp32")

Target = Literal["trt", "rtx"]
"""TensorRT, or TensorRT for RTX."""

LARGEST = 2**31 - 1
"""Upper bound of every integer option; TensorRT stores them as int32."""
MOST_STREAMS = 128
"""Grids that a GPU runs at a time (CUDA programming guide, compute capabilities)."""
COMPUTE_CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""Compute capabilities that TensorRT for RTX 1.7 compiles for."""
GPU_FAMILIES = {"turing": "sm75", "rtx20": "sm75", "rtx30": "sm86", "rtx40": "sm89", "rtx50": "sm120"}
_DATA_CENTRE = (
    *("v100", "t4", "a100", "a30", "a10", "l4", "l40", "l40s", "hopper", "h100", "h200", "gh200", "b100", "b200"),
    *("gb200", "sm70", "sm90", "sm100", "sm103"),
)


_SIZES, _ENGINE, _JOB = "Sizes of a dynamic file", "Engine", "The build itself"  # panels of --help


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Options of a TensorRT engine build."""

    target: Literal["auto", "trt", "rtx"] = field(default="auto", metadata={"flag": "--target"})
    """TensorRT for the GPU of this machine (trt), or TensorRT for RTX (rtx), for GeForce and RTX PRO GPUs, which needs
    no GPU to build; auto takes trt where it is installed."""
    gpu: tuple[str, ...] = field(default=(), metadata={"flag": "--gpu", "panel": _ENGINE})
    """GPUs of an rtx engine: sm75, sm80, sm86, sm89, sm120, sm121, turing, rtx20, rtx30, rtx40, rtx50; default:
    Ampere and newer."""
    min_size: str | None = field(default=None, metadata={"flag": "--min-size", "metavar": "HxW", "panel": _SIZES})
    """Smallest HEIGHTxWIDTH of a dynamic file's engine, multiples of the network's padding; default: `opt_size`."""
    opt_size: str = field(default="1088x1920", metadata={"flag": "--opt-size", "metavar": "HxW", "panel": _SIZES})
    """The size that a dynamic file's engine is tuned for."""
    max_size: str | None = field(default=None, metadata={"flag": "--max-size", "metavar": "HxW", "panel": _SIZES})
    """Largest HEIGHTxWIDTH; default: `opt_size`."""
    min_batch: int = field(default=1, metadata={"flag": "--min-batch", "panel": _SIZES})
    """Smallest batch of a dynamic file's engine."""
    opt_batch: int = field(default=1, metadata={"flag": "--opt-batch", "panel": _SIZES})
    """The batch that it is tuned for."""
    max_batch: int = field(default=1, metadata={"flag": "--max-batch", "panel": _SIZES})
    """Largest batch."""
    workspace_mib: int | None = field(
        default=None, metadata={"flag": "--workspace", "metavar": "MIB", "panel": _ENGINE}
    )
    """Scratch memory that a layer may use; default: all of the GPU's."""
    optimization_level: int = field(
        default=3, metadata={"flag": "--optimization-level", "metavar": "0-5", "panel": _ENGINE}
    )
    """0 to 5: how long TensorRT looks for faster kernels; 0 ignores the timing cache."""
    tf32: bool = field(default=False, metadata={"flag": "--tf32/--no-tf32", "panel": _ENGINE})
    """FP32 layers may round their inputs to TF32 (10 bits of mantissa), which coordinates do not survive."""
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = field(
        default="none", metadata={"flag": "--hardware-compatibility", "panel": _ENGINE}
    )
    """Other GPUs that the engine runs on, at some cost of speed."""
    version_compatible: bool = field(
        default=False, metadata={"flag": "--version-compatible/--this-version", "panel": _ENGINE}
    )
    """The engine runs on newer TensorRT (10 to 11, never back), with a lean runtime inside; costs speed."""
    exclude_lean_runtime: bool = field(
        default=False, metadata={"flag": "--exclude-lean-runtime/--with-lean-runtime", "panel": _ENGINE}
    )
    """Leave the lean runtime out of a version-compatible engine; the host then needs its own."""
    strip_weights: bool = field(default=False, metadata={"flag": "--strip-weights/--with-weights", "panel": _ENGINE})
    """Leave the weights out (they come back by a refit with the same ones)."""
    refittable: bool = field(default=False, metadata={"flag": "--refittable/--not-refittable", "panel": _ENGINE})
    """Weights can be replaced by those of another checkpoint; costs speed, and takes one profile only."""
    verbosity: Literal["detailed", "layer_names_only"] = field(
        default="detailed", metadata={"flag": "--profiling-verbosity", "panel": _ENGINE}
    )
    """Detail of the inspector; the proof of precision needs `detailed`."""
    tiling_level: Literal["none", "fast", "moderate", "full"] = field(
        default="none", metadata={"flag": "--tiling-level", "panel": _ENGINE}
    )
    """Effort of TensorRT's search for tilings that keep data on the chip."""
    aux_streams: int | None = field(default=None, metadata={"flag": "--aux-streams", "panel": _ENGINE})
    """Streams beside the main one, 128 at most; default: TensorRT's own choice."""
    timing_cache: str | None = field(
        default=None, metadata={"flag": "--timing-cache", "metavar": "FOLDER", "panel": _JOB}
    )
    """Folder of timing caches; default: that of the engine."""
    time_limit_s: int = field(default=3600, metadata={"flag": "--time-limit", "metavar": "S", "panel": _JOB})
    """Limit of one build."""
    memory_limit_mib: int | None = field(
        default=None, metadata={"flag": "--memory-limit", "metavar": "MIB", "panel": _JOB}
    )
    """Host memory that the build's process may take; default: no limit."""
    fallback: Literal["auto", "native", "unfused", "gather", "fp32"] = field(
        default="auto", metadata={"flag": "--fallback", "formerly": "rung"}
    )
    """Fallback: the file's own sampler (native), kept from fusing (unfused), written out (gather), or the FP32
    file (fp32); auto takes the first that is exact enough."""

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """`gpu` as sorted compute capabilities such as `sm89`, families resolved; empty without names."""
        found = {GPU_FAMILIES.get(name.lower(), name.lower()) for name in self.gpu}
        return tuple(sorted(found, key=COMPUTE_CAPABILITIES.index))

    def __post_init__(self) -> None:
        for name in self.gpu:
            if name.lower() in _DATA_CENTRE:
                raise ValueError(
                    f"gpu is {name}, a data-centre GPU, and TensorRT for RTX is for GeForce and RTX PRO GPUs; build on "
                    "that GPU, with target trt"
                )
            if name.lower() not in (*COMPUTE_CAPABILITIES, *GPU_FAMILIES):
                known = ", ".join((*COMPUTE_CAPABILITIES, *GPU_FAMILIES))
                raise ValueError(f"gpu has {name or 'an empty name'}; expected some of {known}")
        sizes = [(name, getattr(self, name)) for name in ("min_size", "opt_size", "max_size")]
        for name, size in sizes:
            if size is not None:
                check_sizes_option(name, [size])
        low, opt, high = (parse_size(size or self.opt_size) for _, size in sizes)
        if not all(one <= other <= another for one, other, another in zip(low, opt, high, strict=True)):
            raise ValueError(
                f"min_size {low[0]}x{low[1]}, opt_size {opt[0]}x{opt[1]}, max_size {high[0]}x{high[1]} are not "
                "ascending; expected min <= opt <= max for height and for width"
            )
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch <= LARGEST_BATCH:
            raise ValueError(
                f"min_batch {self.min_batch}, opt_batch {self.opt_batch}, max_batch {self.max_batch} are not "
                f"batches; expected 1 <= min <= opt <= max <= {LARGEST_BATCH}"
            )
        check_range("optimization_level", self.optimization_level, 0, 5)
        for name in ("workspace_mib", "memory_limit_mib", "time_limit_s"):
            check_range(name, getattr(self, name), 1, LARGEST)
        check_range("aux_streams", self.aux_streams, 0, MOST_STREAMS)
        if self.exclude_lean_runtime and not self.version_compatible:
            raise ValueError("exclude_lean_runtime is true; expected it with version_compatible = true only")
        if self.version_compatible and (self.strip_weights or self.refittable):
            raise ValueError(
                "version_compatible is true with strip_weights or refittable; expected one or the other: the lean "
                "runtime, which runs such an engine, cannot refit it"
            )
        if self.strip_weights and self.refittable:
            raise ValueError("strip_weights and refittable are both true; expected one of them")

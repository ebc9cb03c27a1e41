"""The command lines of trtexec and Polygraphy that build the same engine, to cross-check what this tool has built.

Flags of trtexec were read in NVIDIA/TensorRT samples/common/sampleOptions.cpp of a late 10.x and of 11.0, and are the
same in both but for --stronglyTyped; those of Polygraphy are of 0.53.6, which knows TensorRT 10 and 11. Repairs of
GridSample layers that a build makes have no flag: the scripts build what TensorRT's parser says.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from refine_export.engine.build_options import BuildOptions
from refine_export.support.text import size_text

Shape = tuple[int, ...]

_HARDWARE: Final = {"ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}
_TILING: Final = ("none", "fast", "moderate", "full")
"""trtexec takes the number, Polygraphy the name."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What is to be built."""

    onnx: str
    """The file as TensorRT got it: that of the rung that was kept."""
    plan: str
    """Where the engine of the cross-check goes; not the path of the one to be checked."""
    options: BuildOptions
    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    """Input -> min, opt, max shape of a dynamic file; empty for a static one."""
    version: str
    """Full version of TensorRT."""
    timing_cache: str | None = None
    """A timing cache of their own (they don't read this tool's)."""
    debug_tensors: tuple[str, ...] = ()
    """Tensors that were marked to keep samplers from fusing."""

    @property
    def major(self) -> int:
        """First number of the version."""
        return int(self.version.partition(".")[0])


def trtexec_command(what: Reproduction) -> list[str]:
    """The words of the trtexec line.

    Raises:
        ValueError: a name that trtexec can't take: it splits lists at commas and drops single quotes.
    """
    options = what.options
    for name in (*what.shapes, *what.debug_tensors):
        if "," in name or "'" in name:
            raise ValueError(f"trtexec can't take the tensor name {name!r}: it has a comma or a single quote")
    words = ["trtexec", f"--onnx={what.onnx}", f"--saveEngine={what.plan}"]
    if what.major < 11:
        words.append("--stronglyTyped")  # 10 only; 11 is always strongly typed and calls the flag deprecated
    if not options.tf32:
        words.append("--noTF32")
    if what.shapes:
        for place, kind in enumerate(("min", "opt", "max")):
            listed = (f"{name}:{size_text(three[place])}" for name, three in what.shapes.items())
            words.append(f"--{kind}Shapes={','.join(listed)}")
    if options.workspace_mib is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace_mib}")  # MiB without a unit
    words += [f"--builderOptimizationLevel={options.optimization_level}", "--avgTiming=1"]  # TensorRT's own; trtexec: 8
    words.append(f"--profilingVerbosity={options.verbosity}")
    if options.hardware_compatibility != "none":
        words.append(f"--hardwareCompatibilityLevel={_HARDWARE[options.hardware_compatibility]}")
    if options.tiling_level != "none":
        words.append(f"--tilingOptimizationLevel={_TILING.index(options.tiling_level)}")
    if options.aux_streams is not None:
        words.append(f"--maxAuxStreams={options.aux_streams}")
    flags = {
        "--versionCompatible": options.version_compatible,
        "--excludeLeanRuntime": options.exclude_lean_runtime,
        "--stripWeights": options.strip_weights,
        "--refit": options.refittable,
    }
    words += [flag for flag, on in flags.items() if on]
    if what.timing_cache is not None:
        words.append(f"--timingCacheFile={what.timing_cache}")
    if what.debug_tensors:
        words.append(f"--markDebug={','.join(what.debug_tensors)}")
    return [*words, "--skipInference"]


def polygraphy_command(what: Reproduction) -> list[str]:
    """The words of the `polygraphy convert` line."""
    options = what.options
    words = ["polygraphy", "convert", what.onnx, "--convert-to", "trt", "-o", what.plan, "--strongly-typed"]
    if options.tf32:
        words.append("--tf32")  # Polygraphy clears it otherwise
    if what.shapes:
        for place, kind in enumerate(("min", "opt", "max")):
            listed = [f"{name}:[{','.join(map(str, three[place]))}]" for name, three in what.shapes.items()]
            words += [f"--trt-{kind}-shapes", *listed]
    if options.workspace_mib is not None:
        words += ["--pool-limit", f"workspace:{options.workspace_mib}M"]
    words += ["--builder-optimization-level", str(options.optimization_level)]
    words += ["--profiling-verbosity", options.verbosity]
    if options.hardware_compatibility != "none":
        words += ["--hardware-compatibility-level", options.hardware_compatibility]
    if options.tiling_level != "none":
        words += ["--tiling-optimization-level", options.tiling_level]
    if options.aux_streams is not None:
        words += ["--max-aux-streams", str(options.aux_streams)]
    flags = {
        "--version-compatible": options.version_compatible,
        "--exclude-lean-runtime": options.exclude_lean_runtime,
        "--strip-plan": options.strip_weights,
        "--refittable": options.refittable,
    }
    words += [flag for flag, on in flags.items() if on]
    if what.timing_cache is not None:
        words += ["--load-timing-cache", what.timing_cache, "--save-timing-cache", what.timing_cache]
    if what.debug_tensors:
        words += ["--mark-debug", *what.debug_tensors]
    return words


def trtexec_script(what: Reproduction) -> str:
    """A shell script around the trtexec line; where there can be none, it says why and exits with 1."""
    typed = (
        "--stronglyTyped is for TensorRT 10 only: 11 is always strongly typed"
        if what.major < 11
        else "TensorRT 11 is always strongly typed; on 10 this line also needs --stronglyTyped"
    )
    try:
        words = trtexec_command(what)
    except ValueError as error:
        words = ["echo", str(error)]
        return _script(what, [str(error)], f"{shlex.join(words)} >&2\nexit 1")
    return _script(what, [typed, "trtexec has TF32 on unless told otherwise: --noTF32"], _wrapped(words))


def polygraphy_script(what: Reproduction) -> str:
    """A shell script around the Polygraphy line."""
    notes = [
        "--strongly-typed is needed on TensorRT 10 and changes nothing on 11",
        "Polygraphy has TF32 off unless told otherwise: --tf32",
    ]
    return _script(what, notes, _wrapped(polygraphy_command(what)))


def _script(what: Reproduction, notes: list[str], body: str) -> str:
    head = [f"Builds the engine for a cross-check, with TensorRT {what.version}", *notes]
    lines = [" ".join(note.split()) for note in head]
    return "\n".join(["#!/bin/sh", *(f"# {line}." for line in lines), "set -e", body, ""])


def _wrapped(words: list[str]) -> str:
    """One flag a line; words that are no flags stay behind theirs."""
    lines: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not lines:
            lines.append([])
        lines[-1].append(word)
    return " \\\n    ".join(shlex.join(line) for line in lines)

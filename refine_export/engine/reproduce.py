"""The command lines of trtexec and Polygraphy that build the same engine, as a cross-check of this tool.

Flags of trtexec were read in NVIDIA/TensorRT samples/common/sampleOptions.cpp of a late 10.x and of 11.0, and are the
same in both except for --stronglyTyped; those of Polygraphy are of 0.53.6, which knows TensorRT 10, 11 and, by an
environment variable, TensorRT for RTX. Repairs of GridSample layers have no flag: the scripts build what the parser
makes of the file.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.machine import Machine, numbers_of
from refine_export.engine.output_files import POLYGRAPHY, TRTEXEC
from refine_export.engine.profile_shapes import InputShapes
from refine_export.support.text import size_text

Shape = tuple[int, ...]

_HARDWARE: Final = {"ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}
_TILING: Final = ("none", "fast", "moderate", "full")
"""trtexec takes the number, Polygraphy the name."""
_FLAGS: Final = (
    ("version_compatible", "--versionCompatible", "--version-compatible"),
    ("exclude_lean_runtime", "--excludeLeanRuntime", "--exclude-lean-runtime"),
    ("strip_weights", "--stripWeights", "--strip-plan"),
    ("refittable", "--refit", "--refittable"),
)
"""Options that are a flag without a value: of trtexec, of Polygraphy."""
_KINDS: Final = ("min", "opt", "max")
_WITHOUT_TF32: Final = (
    "folder=$(mktemp -d)",
    "trap 'rm -rf \"$folder\"' EXIT",
    "cat > \"$folder/clear_tf32.py\" <<'END'",
    "import tensorrt_rtx",
    "",
    "",
    "def postprocess_config(builder, network, config):",
    "    config.clear_flag(tensorrt_rtx.BuilderFlag.TF32)",
    "END",
)
"""Lines of a shell script that write a Python file for Polygraphy's `--trt-config-postprocess-script`."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Contents of a command line."""

    onnx: str
    """The file as TensorRT got it: that of the fallback that was kept."""
    plan: str
    """Path of the engine of the cross-check; not the path of the one to be checked."""
    options: BuildOptions
    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    """Input -> min, opt, max shape of a dynamic file; empty for a static one."""
    version: str
    """Full version of the library."""
    debug_tensors: tuple[str, ...] = ()
    """Tensors that were marked to keep samplers from fusing."""


def reproduce_scripts(
    output: Path,
    file: Path,
    options: BuildOptions,
    shapes: Sequence[InputShapes],
    machine: Machine,
    unfused: Sequence[str],
) -> dict[str, str]:
    """Return name and text of the shell scripts for a cross-check; their engines go beside this one.

    Args:
        output: the engine.
        file: that it was built from.
        options: that it was built with.
        shapes: of its inputs.
        machine: what it was built for; trtexec, which is not part of TensorRT for RTX's package, has a script for
            TensorRT alone.
        unfused: tensors that were kept from fusing.
    """

    def what(tool: str) -> Reproduction:
        return Reproduction(
            onnx=str(file.absolute()),
            plan=str(output.with_name(f"{output.stem}.{tool}{output.suffix}").absolute()),
            options=options,
            shapes={shape.name: (shape.minimum, shape.optimum, shape.maximum) for shape in shapes if shape.dynamic},
            version=machine.tensorrt,
            debug_tensors=tuple(unfused),
        )

    notes = ["--strongly-typed is needed on TensorRT 10 and changes nothing later; TF32 is off without --tf32"]
    lines, more = ["set -e"], ""
    if machine.library == "rtx":
        lines.append("export POLYGRAPHY_USE_TENSORRT_RTX=1")
        notes = []
        if not options.tf32:
            notes = [
                "Polygraphy 0.53 leaves TF32 on for TensorRT for RTX, with and without --tf32: a script clears it."
            ]
            lines += _WITHOUT_TF32
            more = ' \\\n    --trt-config-postprocess-script "$folder/clear_tf32.py"'
    scripts = {output.name + POLYGRAPHY: _script(notes, lines, polygraphy_command(what("polygraphy")), more)}
    names = [*(shape.name for shape in shapes if shape.dynamic), *unfused]
    # trtexec splits lists at commas and drops single quotes, so that it cannot take such names.
    if machine.library == "trt" and not any("," in name or "'" in name for name in names):
        notes = ["--stronglyTyped is for TensorRT 10: 11 is always strongly typed; TF32 is on without --noTF32"]
        scripts[output.name + TRTEXEC] = _script(notes, ["set -e"], trtexec_command(what("trtexec")))
    return scripts


def trtexec_command(what: Reproduction) -> list[str]:
    """Return the words of the trtexec line; names of tensors have no comma and no single quote."""
    options = what.options
    words = ["trtexec", f"--onnx={what.onnx}", f"--saveEngine={what.plan}"]
    if numbers_of(what.version)[:1] < (11,):
        words.append("--stronglyTyped")
    if not options.tf32:
        words.append("--noTF32")
    if what.shapes:
        for place, kind in enumerate(_KINDS):
            named = (f"{name}:{size_text(three[place])}" for name, three in what.shapes.items())
            words.append(f"--{kind}Shapes={','.join(named)}")
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
    words += [flag for name, flag, _ in _FLAGS if getattr(options, name)]
    if what.debug_tensors:
        words.append(f"--markDebug={','.join(what.debug_tensors)}")
    return [*words, "--skipInference"]


def polygraphy_command(what: Reproduction) -> list[str]:
    """Return the words of the `polygraphy convert` line."""
    options = what.options
    words = ["polygraphy", "convert", what.onnx, "--convert-to", "trt", "-o", what.plan, "--strongly-typed"]
    if options.tf32:
        words.append("--tf32")
    if what.shapes:
        for place, kind in enumerate(_KINDS):
            named = [f"{name}:[{','.join(map(str, three[place]))}]" for name, three in what.shapes.items()]
            words += [f"--trt-{kind}-shapes", *named]
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
    words += [flag for name, _, flag in _FLAGS if getattr(options, name)]
    if options.compute_capabilities:
        words += ["--compute-capabilities", *(f"{name[2:-1]}.{name[-1]}" for name in options.compute_capabilities)]
    if what.debug_tensors:
        words += ["--mark-debug", *what.debug_tensors]
    return words


def _script(notes: Sequence[str], lines: Sequence[str], words: Sequence[str], more: str = "") -> str:
    """A shell script, one flag a line; words that are not flags stay behind theirs, and `more` is added as it is."""
    flags: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not flags:
            flags.append([])
        flags[-1].append(word)
    command = " \\\n    ".join(shlex.join(flag) for flag in flags)
    head = ["Builds the engine once more, for a cross-check.", *notes]
    return "\n".join(["#!/bin/sh", *(f"# {note}" for note in head), *lines, command + more, ""])

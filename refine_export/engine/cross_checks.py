"""The command lines of trtexec and Polygraphy that build the same engine, as a cross-check of this tool.

Flags of trtexec were read in NVIDIA/TensorRT samples/common/sampleOptions.cpp of a late 10.x and of 11.0, and are the
same in both except for --stronglyTyped; those of Polygraphy are of 0.53.6, which knows TensorRT 10, 11 and, by an
environment variable, TensorRT for RTX. Repairs of GridSample layers have no flag: the commands build what the parser
makes of the file.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_manifest import engine_details, options_of
from refine_export.engine.machine import numbers_of
from refine_export.support.manifest import Manifest
from refine_export.support.text import size_text

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
class CrossCheck:
    """Contents of a command line."""

    onnx: str
    """The file as TensorRT got it: that of the fallback that was kept."""
    engine: str
    """Path of the engine of the cross-check; not the path of the one to be checked."""
    options: BuildOptions
    shapes: Mapping[str, Sequence[Sequence[int]]]
    """Input -> min, opt, max shape of a dynamic file; empty for a static one."""
    version: str
    """Full version of the library."""
    debug_tensors: tuple[str, ...] = ()
    """Tensors that were marked to keep samplers from fusing."""


def cross_checks(manifest: Manifest, onnx: Path, output: Path) -> dict[str, str]:
    """Return shell commands of other tools that build the same engine, by tool.

    Args:
        manifest: of the engine.
        onnx: the file that it was built from, or a copy.
        output: the engine; those of the other tools go beside it. trtexec, which is not part of TensorRT for RTX's
            package, has a command for TensorRT alone.
    """
    details, options = engine_details(manifest.details), options_of(manifest)
    key, unfused = details.key, details.unfused
    if key.fallback == "fp32":
        options = dataclasses.replace(options, tf32=False)
    shapes = key.profiles[0] if key.profiles else {}

    def what(tool: str) -> CrossCheck:
        return CrossCheck(
            onnx=str(onnx),
            engine=str(output.with_name(f"{output.stem}.{tool}{output.suffix}")),
            options=options,
            shapes=shapes,
            version=key.tensorrt,
            debug_tensors=unfused,
        )

    notes = ["--strongly-typed is needed on TensorRT 10 and changes nothing later; TF32 is off without --tf32"]
    lines, more = [], ""
    if key.library == "rtx":
        lines.append("export POLYGRAPHY_USE_TENSORRT_RTX=1")
        notes = []
        if not options.tf32:
            notes = [
                "Polygraphy 0.53 leaves TF32 on for TensorRT for RTX, with and without --tf32: a script clears it."
            ]
            lines += _WITHOUT_TF32
            more = ' \\\n    --trt-config-postprocess-script "$folder/clear_tf32.py"'
    found = {"polygraphy": _commands(notes, lines, polygraphy_command(what("polygraphy")), more)}
    # trtexec splits lists at commas and drops single quotes, so that it cannot take such names.
    if key.library == "trt" and not any("," in name or "'" in name for name in (*shapes, *unfused)):
        notes = ["--stronglyTyped is for TensorRT 10: 11 is always strongly typed; TF32 is on without --noTF32"]
        found["trtexec"] = _commands(notes, [], trtexec_command(what("trtexec")))
    return found


def trtexec_command(what: CrossCheck) -> list[str]:
    """Return the words of the trtexec line; names of tensors have no comma and no single quote."""
    options = what.options
    words = ["trtexec", f"--onnx={what.onnx}", f"--saveEngine={what.engine}"]
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


def polygraphy_command(what: CrossCheck) -> list[str]:
    """Return the words of the `polygraphy convert` line."""
    options = what.options
    words = ["polygraphy", "convert", what.onnx, "--convert-to", "trt", "-o", what.engine, "--strongly-typed"]
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


def _commands(notes: Sequence[str], lines: Sequence[str], words: Sequence[str], more: str = "") -> str:
    """Shell commands, one flag a line; words that are not flags stay behind theirs, and `more` is added as it is."""
    flags: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not flags:
            flags.append([])
        flags[-1].append(word)
    command = " \\\n    ".join(shlex.join(flag) for flag in flags)
    return "\n".join([*(f"# {note}" for note in notes), *lines, command + more])

"""The lines beside an engine say every option of it, in the words of trtexec and of Polygraphy."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.reproduce import (
    Reproduction,
    polygraphy_command,
    polygraphy_script,
    trtexec_command,
    trtexec_script,
)

SHAPES = {
    "img0": ((1, 3, 256, 448), (1, 3, 1088, 1920), (2, 3, 2176, 3840)),
    "a:b": ((1, 1, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1)),
}
EVERYTHING = BuildOptions(
    min_size="256x448",
    max_size="2176x3840",
    max_batch=2,
    workspace_mib=4096,
    optimization_level=5,
    tf32=True,
    hardware_compatibility="ampere_plus",
    version_compatible=True,
    exclude_lean_runtime=True,
    verbosity="layer_names_only",
    tiling_level="moderate",
    aux_streams=2,
)
FLAGS = {  # option -> what it adds to trtexec and to polygraphy; None: it is no option of the engine
    "workspace_mib": ("--memPoolSize=workspace:4096", "--pool-limit workspace:4096M"),
    "optimization_level": ("--builderOptimizationLevel=5", "--builder-optimization-level 5"),
    "hardware_compatibility": ("--hardwareCompatibilityLevel=ampere+", "--hardware-compatibility-level ampere_plus"),
    "version_compatible": ("--versionCompatible", "--version-compatible"),
    "exclude_lean_runtime": ("--excludeLeanRuntime", "--exclude-lean-runtime"),
    "strip_weights": ("--stripWeights", "--strip-plan"),
    "refittable": ("--refit", "--refittable"),
    "verbosity": ("--profilingVerbosity=layer_names_only", "--profiling-verbosity layer_names_only"),
    "tiling_level": ("--tilingOptimizationLevel=2", "--tiling-optimization-level moderate"),
    "aux_streams": ("--maxAuxStreams=2", "--max-aux-streams 2"),
    "tf32": ("", "--tf32"),
    **dict.fromkeys(("min_size", "opt_size", "max_size", "min_batch", "opt_batch", "max_batch")),  # the shapes
    **dict.fromkeys(("timing_cache", "time_limit_s", "memory_limit_mib", "rung")),
}


def wanted(options: BuildOptions = EVERYTHING, **changes: Any) -> Reproduction:
    values: dict[str, Any] = {"onnx": "m.onnx", "plan": "m.check.plan", "shapes": SHAPES, "version": "11.4.0"}
    return Reproduction(options=options, **values | changes)


def test_every_option_is_spelled_or_known_to_be_no_flag() -> None:
    """A new option of `BuildOptions` fails here until it has its flags."""
    assert set(FLAGS) == {field.name for field in dataclasses.fields(BuildOptions)}


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_options_become_flags(version: str) -> None:
    other = dataclasses.replace(EVERYTHING, version_compatible=False, exclude_lean_runtime=False)
    stripped, refittable = (dataclasses.replace(other, **{name: True}) for name in ("strip_weights", "refittable"))
    for options in (EVERYTHING, stripped, refittable):
        what = wanted(options, version=version)
        lines = shlex.join(trtexec_command(what)), shlex.join(polygraphy_command(what))
        for name, flags in FLAGS.items():
            on = getattr(options, name) is not False
            for line, flag in zip(lines, flags or (), strict=False):
                assert not flag or (f" {flag} " in f"{line} ") == on, (name, line)


@pytest.mark.parametrize("version", ["10.12.0", "11.4.0"])
def test_defaults_say_what_the_tools_would_do_otherwise(version: str) -> None:
    """TF32 is off here, on in trtexec, off in Polygraphy; 10 is weakly typed unless told; trtexec times 8 times."""
    what = wanted(BuildOptions(), version=version, shapes={})
    typed = ["--stronglyTyped"] if version.startswith("10") else []
    assert trtexec_command(what) == [
        "trtexec",
        "--onnx=m.onnx",
        "--saveEngine=m.check.plan",
        *typed,
        "--noTF32",
        "--builderOptimizationLevel=3",
        "--avgTiming=1",
        "--profilingVerbosity=detailed",
        "--skipInference",
    ]
    assert shlex.join(polygraphy_command(what)) == (
        "polygraphy convert m.onnx --convert-to trt -o m.check.plan --strongly-typed "
        "--builder-optimization-level 3 --profiling-verbosity detailed"
    )
    assert "--noTF32" not in trtexec_command(wanted(EVERYTHING, version=version))


def test_the_flag_of_one_version_is_marked() -> None:
    assert "# --stronglyTyped is for TensorRT 10 only" in trtexec_script(wanted(version="10.16.1"))
    assert "on 10 this line also needs --stronglyTyped" in trtexec_script(wanted(version="11.4.0"))
    assert "with TensorRT 11.4.0" in polygraphy_script(wanted())


def test_shapes_cache_and_debug_tensors() -> None:
    what = wanted(timing_cache="t.cache", debug_tensors=("u", "v"))
    line = trtexec_command(what)
    assert "--minShapes=img0:1x3x256x448,a:b:1x1x1x1" in line
    assert "--optShapes=img0:1x3x1088x1920,a:b:1x1x1x1" in line
    assert "--maxShapes=img0:2x3x2176x3840,a:b:2x1x1x1" in line
    assert {"--timingCacheFile=t.cache", "--markDebug=u,v"} <= set(line)
    other = polygraphy_command(what)
    at = other.index("--trt-max-shapes")
    assert other[at + 1 : at + 3] == ["img0:[2,3,2176,3840]", "a:b:[2,1,1,1]"]


@pytest.mark.parametrize("script", [trtexec_script, polygraphy_script])
def test_scripts_are_shell_and_keep_every_word(script: Any, tmp_path: Path) -> None:
    """Run with a stand-in that prints its arguments: names and paths with spaces and quotes arrive as they are."""
    odd = 'it\'s a $HOME `x` 100% "m".onnx'
    name = {trtexec_script: "in put", polygraphy_script: "in 'put', $x"}[script]
    what = wanted(onnx=odd, shapes={name: SHAPES["img0"]}, timing_cache="a b")
    command = {trtexec_script: trtexec_command, polygraphy_script: polygraphy_command}[script](what)
    stand_in = tmp_path / command[0]
    stand_in.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    stand_in.chmod(0o755)
    path = tmp_path / "line.sh"
    path.write_text(script(what))
    ran = subprocess.run(
        ["/bin/sh", path], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == command[1:]
    assert all(len(line) < 200 for line in path.read_text().splitlines())


@pytest.mark.parametrize("odd", ["a,b", "it's"])
def test_names_that_trtexec_can_not_take_are_said(odd: str, tmp_path: Path) -> None:
    what = wanted(shapes={odd: SHAPES["img0"]})
    with pytest.raises(ValueError, match="comma or a single quote"):
        trtexec_command(what)
    path = tmp_path / "line.sh"
    path.write_text(trtexec_script(what))
    ran = subprocess.run(["/bin/sh", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert odd in ran.stderr
    assert odd in shlex.join(polygraphy_command(what)) or odd == "it's"


def test_a_newline_in_a_version_stays_in_its_comment() -> None:
    assert "\nrm" not in trtexec_script(wanted(version="11.4.0\nrm -rf x"))


@pytest.mark.parametrize("options", [EVERYTHING, BuildOptions(), BuildOptions(refittable=True, tiling_level="full")])
def test_polygraphy_takes_its_line(options: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polygraphy's own parser knows each flag and understands each value (no TensorRT is needed to parse)."""
    pytest.importorskip("polygraphy", reason="polygraphy is not installed: pip install polygraphy")
    from polygraphy.tools.args import ModelArgs, TrtConfigArgs
    from polygraphy.tools.convert import Convert

    tool = Convert()
    parser = argparse.ArgumentParser()
    tool.setup_parser(parser.add_subparsers())
    what = wanted(options, debug_tensors=("u", "v"))
    parsed, unknown = parser.parse_known_args(polygraphy_command(what)[1:])
    assert unknown == []
    assert (parsed.convert_to, parsed.output, parsed.strongly_typed) == ("trt", "m.check.plan", True)
    assert parsed.mark_debug == ["u", "v"]
    monkeypatch.setattr("polygraphy.tools.args.util.parse_path", lambda path, name: path)  # the file needn't be there
    tool.arg_groups[ModelArgs].parse(parsed)
    config = tool.arg_groups[TrtConfigArgs]
    config.parse(parsed)
    (profile,) = config.profile_dicts
    assert {name: tuple(map(tuple, shapes)) for name, shapes in profile.items()} == SHAPES
    pools = {str(pool): size for pool, size in (config.memory_pool_limits or {}).items()}
    wanted_mib = options.workspace_mib
    assert pools == ({} if wanted_mib is None else {"trt.MemoryPoolType.WORKSPACE": wanted_mib << 20})
    assert bool(config.tf32) == options.tf32
    assert bool(config.refittable) == options.refittable
    assert bool(config.strip_plan) == options.strip_weights
    assert int(config.builder_optimization_level) == options.optimization_level

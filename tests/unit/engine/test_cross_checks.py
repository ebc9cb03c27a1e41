"""Cross-checks of an engine have every option of it, as flags of trtexec and of Polygraphy."""

import argparse
import dataclasses
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.cross_checks import CrossCheck, cross_checks, polygraphy_command, trtexec_command
from refine_export.engine.engine_manifest import KIND
from refine_export.engine.identity import engine_key
from refine_export.support.manifest import Manifest
from tests.support.engine_models import details_of, machine_of

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
FLAGS = {  # option -> what it adds to trtexec and to polygraphy; None: not a flag
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
    **dict.fromkeys(("target", "gpu")),  # of TensorRT for RTX
    **dict.fromkeys(("min_size", "opt_size", "max_size", "min_batch", "opt_batch", "max_batch")),  # the shapes
    **dict.fromkeys(("timing_cache", "time_limit_s", "memory_limit_mib", "fallback")),
}


def wanted(options: BuildOptions = EVERYTHING, **changes: Any) -> CrossCheck:
    values: dict[str, Any] = {"onnx": "m.onnx", "engine": "m.check.plan", "shapes": SHAPES, "version": "11.4.0"}
    return CrossCheck(options=options, **values | changes)


def test_every_option_has_flags_or_is_known_to_have_none() -> None:
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
def test_defaults_are_flags_where_the_tools_have_others(version: str) -> None:
    """TF32 is off here, on in trtexec, off in Polygraphy; 10 needs the flag of typing; trtexec times 8 times."""
    what = wanted(BuildOptions(), version=version, shapes={})
    flags = trtexec_command(what)
    assert {"--onnx=m.onnx", "--saveEngine=m.check.plan", "--noTF32", "--avgTiming=1", "--skipInference"} <= set(flags)
    assert ("--stronglyTyped" in flags) == version.startswith("10")
    assert "--tf32" not in polygraphy_command(what)
    assert "--noTF32" not in trtexec_command(wanted(EVERYTHING, version=version))


def checks(library="trt", name="in put", options=EVERYTHING, file=Path("m.onnx"), unfused=("u", "v")):
    """The commands for an engine, from the parts of its manifest that they depend on."""
    machine = dataclasses.replace(machine_of("11.4.0"), library=library)
    key = engine_key(machine, onnx_sha256="", profiles=({name: SHAPES["img0"]},), options=options, fallback="native")
    manifest = Manifest(
        artifact="m.plan",
        kind=KIND,
        sha256="",
        size_bytes=0,
        inputs={},
        options=dataclasses.asdict(options),
        versions={},
        signature={},
        fingerprint="",
        seconds=0.0,
        details=details_of(key, unfused=unfused),
    )
    return cross_checks(manifest, file, Path("/out/m.plan"))


def words_of(commands: str, tool: str, folder: Path) -> list[str]:
    """Run commands with a stand-in for the tool, which prints its arguments."""
    stand_in = folder / tool
    stand_in.write_text('#!/bin/sh\necho "$POLYGRAPHY_USE_TENSORRT_RTX"\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    (folder / "line.sh").write_text(commands)
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", folder / "line.sh"], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("tool", ["trtexec", "polygraphy"])
def test_commands_are_shell_and_keep_every_word(tool: str, tmp_path: Path) -> None:
    """Paths and names with spaces and quotes arrive as they are."""
    odd = tmp_path / 'it\'s a $HOME `x` 100% "m".onnx'
    [environment, *words] = words_of(checks(file=odd)[tool], tool, tmp_path)
    assert environment == ""
    assert {"trtexec": f"--onnx={odd}", "polygraphy": str(odd)}[tool] in words
    assert {"trtexec": "--maxShapes=in put:2x3x2176x3840", "polygraphy": "in put:[2,3,2176,3840]"}[tool] in words
    assert {"trtexec": "--markDebug=u,v", "polygraphy": "u"}[tool] in words
    assert {"trtexec": "--saveEngine=/out/m.trtexec.plan", "polygraphy": "/out/m.polygraphy.plan"}[tool] in words


@pytest.mark.parametrize("odd", ["a,b", "it's"])
def test_names_that_trtexec_cannot_take_have_no_command_of_it(odd: str) -> None:
    assert list(checks(name=odd)) == ["polygraphy"]
    assert list(checks(unfused=(odd,))) == ["polygraphy"]


def test_an_rtx_engine_has_the_command_of_polygraphy(tmp_path: Path) -> None:
    made = checks("rtx", options=BuildOptions(gpu=("rtx40", "rtx50")))
    assert list(made) == ["polygraphy"]
    environment, *words = words_of(made["polygraphy"], "polygraphy", tmp_path)
    assert environment == "1"
    assert shlex.join(words).count("--compute-capabilities 8.9 12.0") == 1


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

"""The public API is frozen: names, signatures and results change on purpose, together with this file."""

import dataclasses
import inspect
import subprocess
import sys

import pytest

import refine_export as rx
from refine_export.errors import RefineExportError
from refine_export.jobs.job_options import SECTIONS, documentation, options_by_keyword, select
from tests.support.paths import ROOT
from tests.support.refusals import refused

FUNCTIONS = {
    "run": "*, checkpoint, frames, recipe, force, progress, [run], [frames], [export], [lower], [build], [validate], "
    "refine",
    "export": "checkpoint, graph, *, output, frames, recipe, force, progress, [export], refine",
    "lower": "onnx, *, output, checkpoint, frames, feeds, size, without_warp, recipe, force, progress, [lower], refine",
    "build": "onnx, *, output, checkpoint, frames, fp32, recipe, force, progress, [build], limits, refine",
    "refit": "engine, onnx, *, output, checkpoint, frames, recipe, force, progress, limits",
    "reproduce": "file, *, run, progress",
    "validate": "files, *, checkpoint, frames, report, locate, recipe, force, progress, [validate], [frames], require, "
    "refine",
    "score": "data_set, files, *, checkpoint, refine, output, recipe, progress, allow_host_code, cuda_graph, "
    "rtx_kernels, rtx_cache, layout, limit, runtimes, device, max_loss_db",
    "bench": "files, *, checkpoint, refine, frames, output, recipe, progress, allow_host_code, cuda_graph, "
    "rtx_kernels, rtx_cache, sizes, batches, torch, device, runtimes, require, rounds, memory",
    "gate": "report, *, baseline, accept, speed, junit, markdown, summary, recipe, require, limits, share, may_fail",
    "bisect": "onnx, *, checkpoint, frames, against, runtime, against_runtime, size, feeds, recipe, force, progress, "
    "flows, timesteps, refine",
    "lint": "files",
    "interpolate": "inputs, *, output, checkpoint, file, server, force, progress, on_wait, timestep, times, fps, slow, "
    "source_fps, raw_input, scene_cut, scene_cuts, cuts, dedupe, allow_missing, audio, resume, codec, crf, "
    "encoder_options, raw_output, allow_host_code, cuda_graph, rtx_kernels, rtx_cache, scale, refine, device, tile, "
    "runtime, concurrency",
    "interpolate_folder": "folder, *, output, checkpoint, file, server, force, progress, on_wait, times, fps, slow, "
    "source_fps, raw_input, scene_cut, scene_cuts, cuts, dedupe, allow_missing, audio, resume, codec, crf, "
    "encoder_options, raw_output, allow_host_code, cuda_graph, rtx_kernels, rtx_cache, scale, refine, device, tile, "
    "runtime, concurrency",
    "interpolate_frames": "frames, fps_in, fps_out, *, checkpoint, file, server, scene_cut, allow_host_code, "
    "cuda_graph, rtx_kernels, rtx_cache, scale, refine, device, tile, runtime, concurrency",
    "deploy_triton": "artifacts, *, output, force, [TritonOptions]",
    "inspect": "file",
    "load_network": "checkpoint, *, scale, refine",
    "list_weights": "",
    "fetch_weights": "name, *, progress",
}
OPTIONS = (
    "BenchOptions",
    "BuildOptions",
    "CheckpointOptions",
    "ExportOptions",
    "FramesOptions",
    "Limits",
    "LimitsOptions",
    "LowerOptions",
    "Recipe",
    "RunOptions",
    "SceneOptions",
    "ScoreOptions",
    "ServerOptions",
    "TritonOptions",
    "ValidateOptions",
)
RESULTS = {  # with the fields that every result of its kind has
    "Benchmarks": "path passed notes",
    "Bisected": "passed notes",
    "Deployed": "path notes",
    "EngineFile": "path notes",
    "ExportedFile": "path notes",
    "GateResult": "path passed notes",
    "Inspection": "path notes",
    "Interpolated": "path notes",
    "LintReport": "passed notes",
    "LoweredFile": "path passed notes",
    "ReleasedWeights": "path",
    "Reproduced": "path passed notes",
    "Scores": "path passed notes",
    "ValidationReport": "path passed notes",
}
ERRORS = (
    "CheckpointError",
    "EngineError",
    "FrameError",
    "GraphError",
    "InternalError",
    "RecipeError",
    "RefineExportError",
    "RepositoryError",
    "RequestError",
    "UnavailableError",
)


def test_names():
    assert sorted(rx.__all__) == sorted([*FUNCTIONS, *OPTIONS, *RESULTS, *ERRORS, "__version__"])
    assert set(rx.__all__) <= set(dir(rx))
    for name in rx.__all__:
        assert getattr(rx, name) is not None
    with pytest.raises(AttributeError):
        rx.nonsense  # noqa: B018 (the access is the test)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures(name):
    """`[export]` stands for the options of a stage, which its dataclass documents and freezes."""
    parameters = list(inspect.signature(getattr(rx, name)).parameters.values())
    expected = []
    for word in FUNCTIONS[name].split(", "):
        known = [one.name for one in parameters]
        if word.startswith("["):
            fields = dataclasses.fields(rx.TritonOptions) if word == "[TritonOptions]" else select(word[1:-1])
            keywords = [getattr(field, "keyword", field.name) for field in fields]
            expected += [keyword for keyword in keywords if keyword in known and keyword not in expected]
        elif word not in ("*", ""):
            expected.append(word)
    assert [one.name for one in parameters] == expected
    positional = [word for word in FUNCTIONS[name].partition("*")[0].split(", ") if word]
    kinds = [one.kind for one in parameters]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == len(positional)
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert inspect.getdoc(getattr(rx, name))


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_small_and_frozen(name):
    result = getattr(rx, name)
    assert dataclasses.is_dataclass(result)
    assert result.__dataclass_params__.frozen
    fields = {field.name for field in dataclasses.fields(result)}
    for needed in [*RESULTS[name].split(), "to_dict"]:
        assert needed in fields or hasattr(result, needed), f"{name}.{needed}"


def test_functions_keep_their_names_beside_the_packages():
    """`refine_export.export` is a package too; importing it must not replace the function."""
    code = (
        "import refine_export as rx; from refine_export.lower.lower_options import LowerOptions; "
        "import refine_export.export.export_options; assert callable(rx.export) and callable(rx.lower)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_loads_the_standard_library_alone():
    code = "import sys, refine_export; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"typer", "rich", "numpy", "onnx", "torch", "pydantic"} & set(found)


def test_every_option_is_documented_and_its_keyword_unique():
    options = select(*SECTIONS)
    assert len({option.keyword for option in options}) == len(options)
    assert set(options_by_keyword()) == {option.keyword for option in options}
    for option in options:
        assert option.help, f"{option.section}.{option.name} has no docstring"
    assert all(documentation(rx.TritonOptions).get(field.name) for field in dataclasses.fields(rx.TritonOptions))


def test_an_unknown_keyword_is_named_with_the_known_ones(tmp_path):
    with refused("unknown-option", option="sise") as caught:
        rx.export(None, "contextnet", output=tmp_path / "x.onnx", sise="64x64")
    assert "size" in caught.value.fields["known"]


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("run", {"recipe": 3}, "not-a-recipe"),
        ("export", {"checkpoint": None, "graph": "contextnet", "size": 64}, "wrong-option"),
        ("export", {"checkpoint": None, "graph": "contextnet", "frames": 5}, "no-path"),
        ("export", {"checkpoint": None, "graph": []}, "wrong-option"),
        ("export", {"checkpoint": None, "graph": "contextnet", "progress": 3}, "wrong-option"),
        ("export", {"checkpoint": None, "graph": "contextnet", "recipe": rx.Recipe(export=None)}, "wrong-option"),
        ("export", {"checkpoint": None, "graph": "contextnet", "recipe": {}}, "not-a-recipe"),
        ("lower", {"onnx": "a.onnx", "size": 64}, "wrong-option"),
        ("lower", {"onnx": "a.onnx", "feeds": 3}, "no-path"),
        ("lower", {"onnx": "a.onnx", "without_warp": "no"}, "wrong-option"),
        ("validate", {"files": "a.onnx", "sizes": "64x64"}, "wrong-option"),
        ("bisect", {"onnx": "a.onnx", "size": 64}, "wrong-option"),
        ("interpolate", {"inputs": ["a.png", "b.png"], "timestep": "a"}, "wrong-option"),
        ("interpolate", {"inputs": ["a.png", "b.png"], "server": 1}, "wrong-option"),
        ("interpolate", {"inputs": ["a.png", "b.png"], "on_wait": 1}, "wrong-option"),
        ("interpolate_folder", {"folder": "", "output": ""}, "bad-path"),
        ("interpolate_frames", {"frames": 3, "fps_in": 24, "fps_out": 48}, "wrong-option"),
        ("interpolate_frames", {"frames": [], "fps_in": "a", "fps_out": 48}, "wrong-option"),
        ("interpolate_frames", {"frames": [], "fps_in": 24, "fps_out": 48, "tile": 10**9}, "wrong-option"),
        ("deploy_triton", {"artifacts": "a.onnx", "sizes": 3}, "wrong-option"),
        ("load_network", {"checkpoint": None, "refine": 3}, "wrong-option"),
        ("fetch_weights", {"name": []}, "unknown-weights"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_by_code(tmp_path, monkeypatch, name, arguments, code):
    monkeypatch.chdir(tmp_path)
    output = {"output": "out"} if "output" in inspect.signature(getattr(rx, name)).parameters else {}
    with pytest.raises(RefineExportError) as caught:
        getattr(rx, name)(**output | arguments)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert list(tmp_path.iterdir()) == []


def test_types_are_shipped():
    assert (ROOT / "refine_export" / "py.typed").is_file()
    assert (ROOT / "models" / "rife" / "py.typed").is_file()

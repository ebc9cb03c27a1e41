"""Situations in which messages of the package give advice: files, and what goes wrong with them."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.checkpoint.recognition import expected_shapes
from refine_export.cli.main import main
from refine_export.interpolation import segments
from refine_export.lower import amplified_errors
from refine_export.report.report_data import MeasuredLatency
from refine_export.runners import open_onnx_runner
from refine_export.support.text import json_text
from tests.support.advice import call
from tests.support.data_sets import drawn_triplet
from tests.support.deploy_files import write_average
from tests.support.foreign import CONV, IMAGE, OUT, Foreign, foreign_model, kernel, model_of, plain_model
from tests.support.formula_weights import formula_weights
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, report_of
from tests.support.interpolation_clips import clip
from tests.support.lower_files import tiny
from tests.support.model_repositories import good_repository, new_plan
from tests.support.paths import TESTS
from tests.support.wrong_samplers import WrongSampler

RECIPE = """
[checkpoint]
weights = "seeded"
[frames]
sample = "scene"
[scene]
height = 64
width = 96
[export]
dynamic = false
size = "64x96"
[validate]
sizes = []
flows = ["subpixel"]
"""
RECIPE_FILE = "--recipe r.toml"
AVERAGE = "--file average.onnx"


@pytest.fixture(name="here")
def here_fixture(tmp_path, monkeypatch):
    """A folder with a recipe, pictures, graphs of other tools, and files that belong to nobody."""
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(RECIPE)
    for name, picture in zip(("a.png", "m.png", "b.png"), drawn_triplet(), strict=True):
        Image.fromarray(picture).save(name)
    write_average(Path("average.onnx"))
    for name, model in (("plain", plain_model()), ("tiny", tiny())):
        onnx.save(model, f"{name}.onnx")
    for name in ("there.onnx", "there.png", "there.plan", "there.json"):
        Path(name).write_text("mine")
    return tmp_path


@pytest.fixture(scope="session", name="own")
def own_fixture(tmp_path_factory):
    """Weights in a file, and the graph that is exported from them."""
    folder = tmp_path_factory.mktemp("own")
    torch.save(dict(seeded_checkpoint("IFNet").state_dict), folder / "own.pth")
    (folder / "r.toml").write_text(RECIPE)
    call(f"export --graph contextnet -o {folder} --checkpoint {folder}/own.pth --recipe {folder}/r.toml")
    return folder


def foreign(request):
    onnx.save(foreign_model(Foreign()), "dynamic.onnx")
    onnx.save(foreign_model(Foreign(size=(64, 96))), "static.onnx")


def ours(request):
    shutil.copy(request.getfixturevalue("exports").fp32("contextnet", size="64x96"), "ours.onnx")


def own_files(request):
    for name in ("own.pth", "contextnet.onnx", "contextnet.onnx.json"):
        shutil.copy(request.getfixturevalue("own") / name, ".")


def without_network(request):
    own_files(request)
    for name, value in (("REFINE_EXPORT_CACHE", "no-cache"), ("PIP_NO_INDEX", "1")):
        request.getfixturevalue("monkeypatch").setenv(name, value)


def counted(request):
    """A graph with an input of integers."""
    model = tiny()
    model.graph.input.append(onnx.helper.make_tensor_value_info("k", onnx.TensorProto.INT64, [1]))
    model.graph.node.append(onnx.helper.make_node("Cast", ["k"], ["kf"], to=1))
    model.graph.node.append(onnx.helper.make_node("Add", ["y", "kf"], ["z"]))
    model.graph.output[0].name = "z"
    onnx.save(model, "counted.onnx")
    arrays = {"x": (1, 3, 16, 24), "g": (1, 16, 24, 2)}
    made = {name: np.full(shape, 0.5, np.float32) for name, shape in arrays.items()}
    np.savez("x.npz", k=np.ones(1, np.int64), **made)


def for_bytes(request):
    """A graph for pixels from 0 to 255."""
    nodes = f"{kernel('w', 3, 3, 3, 3)} a = Div (x, k) y = {CONV} (a, w)"
    onnx.save(model_of(nodes, IMAGE, OUT, k=np.float32([255])), "bytes.onnx")
    np.savez("x.npz", x=np.full((1, 3, 64, 96), 200, np.float32))


def ties(request):
    """A comparison of nearly equal numbers behind more convolutions than are kept in FP32."""
    rng = np.random.default_rng(0)
    weights = {f"w{k}": (rng.standard_normal((3, 3, 3, 3)) * 0.27).astype(np.float32) for k in range(9)}
    convolutions = " ".join(f"c{k + 1} = {CONV} (c{k}, w{k})" for k in range(9)).replace("(c0,", "(x,")
    body = f"{convolutions} i = ArgMax <axis = 1> (c9) f = Cast <to = 1> (i) e = Shape (x) d = Expand (f, e)"
    onnx.save(model_of(f"{body} y = {CONV} (d, w0)", IMAGE, OUT, **weights), "ties.onnx")


def logarithm_of_little(request):
    """A logarithm of what a convolution's bias leaves of the input: zero in FP16."""
    request.getfixturevalue("monkeypatch").setattr(amplified_errors, "MOST_ROUNDS", 0)  # else it is found
    weights = {"w": np.float32(np.eye(3))[..., None, None], "b": np.float32([-0.7] * 3)}
    onnx.save(model_of("s = Conv (x, w, b) r = Log (s) y = Conv (r, w)", IMAGE, OUT, **weights), "log.onnx")
    np.savez("x.npz", x=np.random.default_rng(0).uniform(0.70015, 0.7002, (1, 3, 64, 96)).astype(np.float32))


def many_notes(request):
    """Seven inputs that stay FP32, each with a note."""
    names = [f"p{number}" for number in range(7)]
    inputs = ", ".join(f"float[1,5,16,24] {name}" for name in names)
    onnx.save(model_of(f"y = Sum ({', '.join(names)})", inputs, "float[1,5,16,24] y"), "many.onnx")


def wrong_sampler(request):
    ours(request)
    open_onnx_runner.sampling_problems.cache_clear()
    request.addfinalizer(open_onnx_runner.sampling_problems.cache_clear)
    request.getfixturevalue("monkeypatch").setattr(open_onnx_runner, "OrtRunner", WrongSampler)


def not_a_number(request):
    model = onnx.load(write_average(Path("nan.onnx"), timestep=False))
    gain = next(one for one in model.graph.initializer if one.name == "gain")
    gain.CopyFrom(onnx.numpy_helper.from_array(np.float32(np.nan), "gain"))
    del model.metadata_props[:]  # it was made from no weights
    onnx.save(model, "nan.onnx")


def report(path="r.json", psnr=70, **more):
    made = report_of([comparison(artifact(), feed, metrics(psnr)) for feed in FEEDS], **more)
    Path(path).write_text(json_text(made.to_dict()))


def reported(request):
    report()


def accepted(request, *, psnr=70):
    """A baseline, and a report of this PSNR."""
    report("old.json")
    call("gate old.json --baseline b.json --accept")
    report(psnr=psnr)


def of_other_weights(request):
    accepted(request)
    Path("b.json").write_text(Path("b.json").read_text().replace("c" * 64, "d" * 64))


def many_failures(request):
    files = [artifact(f"{number}.fp16.onnx") for number in range(60)]
    made = report_of([comparison(one, "network", metrics(50)) for one in files], artifacts=files)
    Path("r.json").write_text(json_text(made.to_dict()))


def measured(request):
    latency = MeasuredLatency(
        file="refine.fp16.onnx",
        runtime="half",
        batch=1,
        size=(64, 64),
        runs=7,
        median_ms=2.0,
        reference_ms=2.0,
        ratio=1.0,
        ratio_error=0.1,
    )
    report("l.json", latencies=(latency,))
    call("gate l.json --baseline b.json --accept --speed")
    report(latencies=(dataclasses.replace(latency, file="other.onnx"),))


def repository(request, *, device="cpu"):
    call(f"deploy triton average.onnx -o models --device {device}")


def without_config(request):
    repository(request)
    Path("models/deployment.json").unlink()
    Path("models/interpolator/config.pbtxt").unlink()


def changed_by_hand(request):
    repository(request)
    with Path("models/interpolate/config.pbtxt").open("a") as file:
        file.write("# mine")


def plans(request, **changed):
    root = good_repository(Path.cwd())
    (root / "deployment.json").unlink()
    new_plan(root, **changed)


def gaps(request):
    for number in (1, 2, 5):
        shutil.copy("a.png", f"gap_{number}.png")


def rgb(request, size=(32, 32)):
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", size, colour).save(f"p_{number}.png")


def cut(request):
    content = clip(Path("cut.mkv"), 30, codec="ffv1").read_bytes()
    Path("cut.mkv").write_bytes(content[: len(content) * 2 // 3])


def piped(request):
    stream = type("Stream", (), {"buffer": property(lambda self: io.BytesIO(bytes(96 * 64 * 3 * 3)))})()
    request.getfixturevalue("monkeypatch").setattr(sys, "stdin", stream)


def interrupted(request):
    """The first job is interrupted at its 15th frame, in the second part."""
    patch, write, count = request.getfixturevalue("monkeypatch"), segments.SegmentWriter.write_frame, iter(range(15))

    def write_or_end(self, *given):
        if next(count, None) == 14:
            raise KeyboardInterrupt
        write(self, *given)

    clip(Path("in.mp4"), 10)
    patch.setattr(segments, "LENGTH", 8)
    patch.setattr(segments.SegmentWriter, "write_frame", write_or_end)


def left_parts(request):
    """Parts that an interrupted job has left."""
    interrupted(request)
    with pytest.raises(SystemExit):
        main(f"interpolate in.mp4 {AVERAGE} -o o.mp4".split())


def formula_file(name, path):
    shapes = json.loads((TESTS / "golden" / "networks" / "keys.json").read_text())
    shapes["rife4_0_refined"] = shapes["rife4_0"] | expected_shapes("refinement")
    torch.save(formula_weights(shapes[name]), path)


def refused_by_parser(request):
    """A DeformConv, which TensorRT for RTX does not have."""
    plane = 'float["N",3,"H","W"]'
    constants = {"w": np.ones((3, 3, 1, 1), np.float32)} | {f"n{k}": np.int64([k]) for k in range(3)}
    nodes = "o = Slice (img1, n0, n2, n1) frame = DeformConv (img0, w, o)"
    model = model_of(nodes, f"{plane} img0, {plane} img1", f"{plane} frame", opset=19, **constants)
    onnx.save(model, "deform.onnx")


def rtx_engine(request, *, lost=True):
    ours(request)
    call(f"build ours.onnx -o own.rtx --target rtx {RECIPE_FILE}")
    if lost:
        Path("own.rtx.json").unlink()

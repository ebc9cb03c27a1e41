"""A situation for each piece of advice in the package's messages, or the reason why none is made."""

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
from tests.support.advice import Case, call
from tests.support.data_sets import draw_data_set, drawn_triplet
from tests.support.deploy_files import write_average
from tests.support.foreign import CONV, IMAGE, OUT, Foreign, foreign_model, kernel, model_of, plain_model
from tests.support.formula_weights import formula_weights
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, report_of
from tests.support.interpolation_clips import Sound, clip
from tests.support.lower_files import tiny
from tests.support.model_repositories import good_repository, new_plan
from tests.support.paths import TESTS
from tests.support.stacks import stacked_file
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


RECIPE_FILE = "--recipe r.toml"
AVERAGE = "--file average.onnx"
KSERVE = "deploy kserve models --storage-uri s3://b/m --force"
LOWER = f"-o o.onnx {RECIPE_FILE}"

FOLLOWED = {
    "baseline.py gate --baseline --accept": [
        Case(
            "gate r.json --baseline b.json",
            "run; - --baseline b.json; + --baseline new.json",
            lambda _: (report(), Path("b.json").write_text("{}")),
            names=(("REPORT", "r.json"), ("FILE", "new.json")),
        )
    ],
    "bisect_file.py --against": [Case(f"bisect plain.onnx --size 64x96 {RECIPE_FILE}", "+ --against plain.onnx")],
    "calibration_feeds.py --calibrate": [Case(f"lower counted.onnx {LOWER}", "+ --calibrate x.npz", counted)],
    "calibration_feeds.py --size --calibrate": [Case(f"lower plain.onnx --without-warp {LOWER}", "+ --size 64x96")],
    "changes.py --accept": [
        Case("gate r.json --baseline b.json", "+ --accept", of_other_weights, after=lambda: Path("b.json").unlink())
    ],
    "colour.py --encoder-options": [
        Case(
            f"interpolate gap_%d.png {AVERAGE} -o o.mp4 --allow-missing --force",
            "+ --encoder-options pix_fmt=yuv420p",
            gaps,
            code=0,
        ),
        Case(f"interpolate p_%d.png {AVERAGE} -o o.mp4 --codec libsvtav1", "+ --encoder-options pix_fmt=yuv420p", rgb),
    ],
    "colour.py --codec": [
        Case(
            f"interpolate p_%d.png {AVERAGE} -o o.mp4 --codec libsvtav1",
            "- --codec libsvtav1; + --codec libx264",
            lambda request: rgb(request, (33, 32)),
        )
    ],
    "completeness.py --allow-missing": [Case(f"interpolate cut.mkv {AVERAGE} -o o.mkv", "+ --allow-missing", cut)],
    "copied_streams.py --no-audio": [
        Case(
            f"interpolate pcm.mkv {AVERAGE} -o o.webm",
            "+ --no-audio",
            lambda _: clip(Path("pcm.mkv"), 3, sounds=[Sound("pcm_s16le", 0.1)]),
        )
    ],
    "decision.py --require": [Case("gate r.json --require trt", "- --require trt", reported, code=3)],
    "deploy_kserve.py --force": [
        Case("deploy kserve models --storage-uri s3://b/m -o there.json", "+ --force", repository)
    ],
    "encoders.py --encoder-options": [
        Case(
            f"interpolate in.mkv {AVERAGE} -o o.mkv --encoder-options preset=nothing",
            "- --encoder-options preset=nothing; + --encoder-options preset=fast",
            lambda _: clip(Path("in.mkv"), 3),
        )
    ],
    "findings.py deploy triton": [
        Case("deploy check models", "run deploy triton average.onnx -o new; - models; + new", without_config, code=1),
    ],
    "findings.py deploy triton --force": [
        Case(
            "deploy check models",
            "run",
            changed_by_hand,
            names=(("triton", "triton average.onnx -o models"),),
            code=1,
        )
    ],
    "gate.py --checkpoint --self-test": [Case("gate r.json --checkpoint x.pth", "- --checkpoint x.pth", reported)],
    "gate.py --self-test": [Case("gate", "+ --self-test no.onnx", then=2)],
    "gate.py --self-test --checkpoint --recipe": [
        Case(f"gate --self-test no.onnx --junit j.xml {RECIPE_FILE}", "- --junit j.xml", then=2)
    ],
    "gate_report.py --accept": [
        Case("gate r.json --baseline b.json", "+ --accept", lambda request: accepted(request, psnr=75), code=0)
    ],
    "gate_report.py --baseline": [Case("gate r.json --accept", "+ --baseline b.json", reported)],
    "init.py --force": [Case("init r.toml", "+ --force")],
    "input_scale.py --calibrate": [
        Case(
            f"lower bytes.onnx --without-warp --size 64x96 {LOWER}",
            "+ --calibrate x.npz",
            for_bytes,
            code=0,
        )
    ],
    "interpolate.py --protocol --timeout --patience --server": [
        Case("interpolate a.png b.png -o o.png --patience 0", "+ --server 127.0.0.1:1", then=3)
    ],
    "interpolate_video.py --resume": [
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4", "+ --resume", interrupted, code=130)
    ],
    "kserve.py --gpu": [Case(f"{KSERVE} --gpu 1", "- --gpu 1; + --gpu 0", repository, code=0)],
    "kserve.py --triton-release": [
        Case(f"{KSERVE} --triton-release 25.06", "- --triton-release 25.06", plans),
        Case(KSERVE, "+ --triton-release 29.01", lambda request: plans(request, tensorrt="99.0.0.1")),
    ],
    "kserve.py deploy check": [
        Case(
            KSERVE,
            "run deploy check models",
            lambda request: (repository(request), Path("models/interpolator/1/model.onnx").write_text("x")),
            ran=1,
            again=False,
        )
    ],
    "kserve.py deploy triton --device": [
        Case(
            f"{KSERVE} --gpu 0",
            "run deploy triton --device cpu average.onnx -o new; - models; + new",
            lambda request: repository(request, device="gpu"),
        )
    ],
    "lowered_file.py --calibrate --size": [
        Case(
            f"lower tiny.onnx --target-psnr 50 --sizes 96x96 {LOWER}",
            "- tiny.onnx; + plain.onnx --without-warp --size 64x96",
        )
    ],
    "lowered_file.py --force": [
        Case(f"lower tiny.onnx {LOWER}", "+ --force", lambda _: Path("o.onnx.json").write_text("{}"))
    ],
    "lowered_file.py --target-psnr --precision": [
        Case(f"lower log.onnx --without-warp --calibrate x.npz {LOWER}", "+ --target-psnr 60", logarithm_of_little)
    ],
    "lowered_file.py --output": [
        Case(f"lower tiny.onnx -o tiny.onnx --force {RECIPE_FILE}", "+ --output o.onnx"),
    ],
    "manifest.py --force": [Case(f"lower tiny.onnx -o there.onnx {RECIPE_FILE}", "+ --force")],
    "output_checks.py --force": [Case(f"interpolate a.png b.png {AVERAGE} -o there.png", "+ --force")],
    "picture_sequences.py --allow-missing": [
        Case(f"interpolate gap_%d.png {AVERAGE} -o o.mkv", "+ --allow-missing", gaps)
    ],
    "picture_sequences.py --source-fps": [
        Case(
            f"interpolate gap_%d.png {AVERAGE} -o o.mkv --allow-missing --force",
            "+ --source-fps 30",
            gaps,
            code=0,
        )
    ],
    "precision_rule.py --without-warp": [Case(f"lower plain.onnx --size 64x96 {LOWER}", "+ --without-warp")],
    "print_files.py deploy check": [Case("deploy triton average.onnx -o models", "run", code=0, again=False)],
    "print_verdicts.py --json": [Case("gate r.json", "+ --json", many_failures, code=1, then=1)],
    "recipe_file.py init": [
        Case("gate r.json --recipe new.toml", "run", reported),
        Case(
            "gate r.json --recipe set",
            "run init new.toml; - set; + new.toml",
            lambda _: (report(), Path("set").mkdir()),
        ),
    ],
    "repository.py --force": [Case("deploy triton average.onnx -o models", "+ --force", repository)],
    "screen.py --json": [
        Case(f"lower many.onnx --without-warp --io fp16 --force {LOWER}", "+ --json", many_notes, code=0)
    ],
    "segments.py --resume --force": [
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4", "+ --resume", left_parts),
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4", "+ --force", left_parts),
    ],
    "segments.py --force --resume": [
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4 --resume --times 3", "- --resume; + --force", left_parts),
    ],
    "segments.py --times": [
        Case(
            f"interpolate fast.mp4 {AVERAGE} --times 8 -o o.mkv",
            follow,
            lambda _: clip(Path("fast.mp4"), 12, rate=240),
        )
        for follow in ("- --times 8; + --times 2", "- -o o.mkv; + -o o.mp4")
    ],
    "stage_options.py --frames": [
        Case(
            "lower plain.onnx -o o.onnx --without-warp --size 64x96 --frames a.png --quiet",
            "- --frames a.png; + --frames a.png b.png",
        ),
    ],
    "street_frames.py --frames": [
        Case("lower plain.onnx -o o.onnx --without-warp --size 64x96", "+ --frames a.png b.png", code=3)
    ],
    "writer.py --fps": [
        Case(
            f"interpolate in.mp4 {AVERAGE} -o o.gif --times 3",
            "- --times 3; + --fps 50",
            lambda _: clip(Path("in.mp4"), 3),
        )
    ],
    "video.py --raw-input": [Case(f"interpolate - {AVERAGE} -o o.mkv", "+ --raw-input 96x64:rgb24:25", piped)],
}
"""Module and pieces, and the cases; each takes about a second at most."""

FOLLOWED_SLOWLY = {
    "amplified_errors.py --target-psnr": [
        Case(f"lower ties.onnx --without-warp --size 64x96 {LOWER}", "+ --target-psnr 60", ties, code=0)
    ],
    "bench_files.py --size --batch": [
        Case(f"bench static.onnx --rounds 5 --no-memory --size 32x32 {RECIPE_FILE}", "- --size 32x32", foreign)
    ],
    "bench_speed.py --checkpoint": [
        Case(
            "bench contextnet.onnx --rounds 5 --no-memory --recipe m.toml",
            "+ --checkpoint own.pth",
            lambda request: (
                own_files(request),
                Path("m.toml").write_text(RECIPE.replace('seeded"', 'seeded"\narchitecture = "IFNet_m"')),
            ),
            code=0,
        )
    ],
    "bisect_file.py --runtime": [
        Case(
            f"bisect own.plan {RECIPE_FILE}",
            "- own.plan; + ours.onnx --runtime onnxruntime-tensorrt",
            lambda request: (ours(request), Path("own.plan").write_bytes(b"ftrt" + bytes(60))),
            then=3,
        )
    ],
    "gate_report.py validate --latency --baseline": [
        Case(
            "gate r.json --speed",
            "run; - r.json; + new/report.json --baseline b.json --accept",
            lambda request: (ours(request), report()),
            names=(("20", "5 ours.onnx --report new --recipe r.toml"),),
        )
    ],
    "interpolator.py validate": [
        Case(
            "interpolate a.png b.png -o o.png --file nan.onnx",
            f"run validate nan.onnx {RECIPE_FILE}; - nan.onnx; + average.onnx",
            not_a_number,
            ran=1,
        )
    ],
    "layouts.py --layout": [
        Case(
            f"score set {RECIPE_FILE}",
            "+ --layout middlebury",
            lambda _: (draw_data_set(Path("set"), "middlebury"), draw_data_set(Path("set"), "vimeo-triplet")),
        )
    ],
    "load_inputs.py --checkpoint": [
        Case(f"validate contextnet.onnx {RECIPE_FILE}", "+ --checkpoint own.pth", own_files),
    ],
    "load_inputs.py --no-refine": [
        Case(
            f"validate made/interpolator.onnx --checkpoint own.pth {RECIPE_FILE}",
            "+ --no-refine",
            lambda _: (
                formula_file("rife4_0_refined", "own.pth"),
                call(f"export --graph interpolator -o made --checkpoint own.pth --no-refine {RECIPE_FILE}"),
            ),
        )
    ],
    "network_models.py --layout": [
        Case(
            "deploy triton stacked.onnx -o models",
            f"run export --graph interpolator --layout pair -o made --checkpoint own.pth {RECIPE_FILE}; - stacked.onnx"
            "; + made/interpolator.onnx",
            lambda _: (formula_file("rife4_6", "own.pth"), stacked_file(Path("stacked.onnx"), 7)),
        )
    ],
    "onnx_source.py --fp32": [
        Case(
            f"build half.onnx -o o.rtx --target rtx --fallback fp32 {RECIPE_FILE}",
            "+ --fp32 ours.onnx",
            lambda request: (
                ours(request),
                call(f"lower ours.onnx -o half.onnx {RECIPE_FILE}"),
                Path("half.onnx.json").unlink(),
            ),
        )
    ],
    "open_onnx_runner.py --gridsample": [
        Case(
            f"validate ours.onnx {RECIPE_FILE}",
            f"run lower ours.onnx -o gather.onnx --precision fp32 --gridsample gather {RECIPE_FILE}; - ours.onnx; "
            "+ gather.onnx",
            wrong_sampler,
            code=1,
        )
    ],
    "output_files.py --output": [
        Case(f"build ours.onnx -o ours.onnx --force {RECIPE_FILE}", "- -o ours.onnx; + --output o.plan", ours)
    ],
    "output_files.py --output --force": [Case(f"build ours.onnx -o there.plan {RECIPE_FILE}", "+ --force", ours)],
    "parse_network.py lint": [
        Case(
            f"build deform.onnx -o o.rtx --target rtx {RECIPE_FILE}",
            "run lint deform.onnx",
            refused_by_parser,
            ran=1,
            again=False,
        )
    ],
    "engine_manifest.py build": [
        Case(
            "inspect own.rtx",
            "run",
            rtx_engine,
            names=(("FILE.onnx", f"ours.onnx {RECIPE_FILE}"),),
            code=0,
        )
    ],
    "reference_network.py --no-refine": [
        Case(
            "export -o out --graph contextnet --size 64x64 --checkpoint own.pth --no-refine",
            "- --no-refine",
            lambda _: formula_file("rife4_0_refined", "own.pth"),
        )
    ],
    "refit_engine.py build --target": [
        Case(
            f"refit own.rtx ours.onnx -o new.rtx {RECIPE_FILE}",
            "run",
            lambda request: rtx_engine(request, lost=False),
            again=False,
        )
    ],
    "released_weights.py --checkpoint": [
        Case("export -o out --graph contextnet --size 64x64", "+ --checkpoint own.pth", without_network, code=3)
    ],
    "report_files.py --report": [
        Case(
            "gate there.json",
            f"run validate --report new ours.onnx {RECIPE_FILE}; - there.json; + new/report.json",
            ours,
        )
    ],
    "scoring.py --output": [
        Case(
            f"score set -o out {RECIPE_FILE}",
            "- -o out; + --output other",
            lambda _: (draw_data_set(Path("set"), "middlebury"), Path("out/score.jsonl").mkdir(parents=True)),
        )
    ],
    "speed.py --latency": [
        Case(
            "gate r.json --baseline b.json --speed",
            f"run validate --latency 5 ours.onnx --report new {RECIPE_FILE}; - r.json; + l.json",
            lambda request: (ours(request), measured(request)),
            code=3,
        )
    ],
    "validate_files.py --force": [
        Case(f"validate contextnet.onnx {RECIPE_FILE}", "+ --force", own_files),
    ],
    "validation_report.py --checkpoint": [
        Case(f"validate contextnet.onnx --force {RECIPE_FILE}", "+ --checkpoint own.pth", own_files, code=0)
    ],
}
"""The same, for cases that take longer."""

_GPU = "a GPU, and a TensorRT that reads GridSample wrongly or is not exact"
_SERVER = "an inference server; tests/triton has one"
NOT_FOLLOWED = {
    "backends.py --patience": f"names the option that limits the time of waiting for {_SERVER}",
    "bindings.py doctor": "a TensorRT library and no driver; `doctor` is run elsewhere",
    "build_process.py --fallback": _GPU,
    "channels.py --url --protocol": _SERVER,
    "diagnosis.py --force-reinstall": "pip",
    "diagnosis.py reproduce": "says what Polygraphy is for",
    "encoders.py --codec": "a PyAV without that encoder",
    "engine_diagnosis.py --gpus": "docker",
    "engine_diagnosis.py --upgrade": "pip",
    "engine_runner.py refit": "a GPU; tests/unit/jobs/test_engine_jobs_refit.py refits a stripped engine of the fake",
    "fallbacks.py --fallback": _GPU,
    "findings.py build": "a TensorRT for servers; `engine_manifest.py build` is followed with TensorRT for RTX",
    "findings.py lower": "asks first for a line of a config to be taken out",
    "grid_sample_check.py --fallback": _GPU,
    "init.py run --recipe": "the main job takes minutes; tests of `run` read what `init` writes",
    "interpolate_video.py --force --resume": "a video that changes while it is read",
    "interpolator.py deploy check": _SERVER,
    "junit.py gate": "a name in a file",
    "machine.py --gpus": "docker",
    "markdown.py --accept": "the advice of `gate_report.py --accept`, in a file",
    "model_config.py deploy triton": "a comment in a file",
    "onnxruntime.py lint": "a provider of a GPU",
    "engine_manifest.py --target": "the end of the command of `engine_manifest.py build`",
    "print_files.py weights get": "the network",
    "print_verdicts.py --require": "names the option that asks for a runtime; `decision.py --require` is followed",
    "recipe_file.py run --recipe": "a comment in a file, with the command of `init.py run --recipe`",
    "refit_file.py --refittable": "a GPU; tests/unit/jobs/test_engine_jobs_refit.py refits such an engine of the fake",
    "releases.py --rm": "docker",
    "serve_page.py --checkpoint --file": "serves until it is interrupted",
    "serve_page.py --port": "serves until it is interrupted",
    "shared_memory.py --shm-size": "docker",
    "validation_report.py --checkpoint --frames": "tests/unit/jobs/test_validate_files.py reads the command",
    "verify_networks.py --gridsample": _SERVER,
}
"""Module and pieces, and what a test would need."""

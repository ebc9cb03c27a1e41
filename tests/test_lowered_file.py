"""`lower` on the command line: what it refuses and in which words, what it writes, what it leaves alone."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign import (
    CONV,
    IMAGE,
    SAMPLE,
    Foreign,
    control_flow_model,
    custom_model,
    double_model,
    foreign_model,
    function_model,
    grid_input_model,
    half_model,
    kernel,
    model_of,
    plain_model,
    with_initializers,
)
from onnx import numpy_helper

from refine_export import lowered_file
from refine_export.cli import main
from refine_export.export import ExportOptions, onnx_from_network
from refine_export.graph.lint import lint_file
from refine_export.manifest import sha256_of_file
from refine_export.runners.half import HalfRunner
from refine_export.runners.ort import OrtRunner

RECIPE = '[checkpoint]\nweights = "seeded"\n[scene]\nheight = 64\nwidth = 96\nmotion_px = 4.0\n'
STATIC = Foreign(size=(64, 96))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def run(capfd):
    """Call `lower` as the console script does, with the small scene."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["lower", *map(str, arguments), "--recipe", "small.toml"])
        out, err = capfd.readouterr()
        return caught.value.code or 0, out, err

    return call


@pytest.fixture
def refused(run, here) -> Callable[..., None]:
    """Call it and expect exit code 2, one sentence with these words, and nothing written."""

    def call(*arguments, words):
        before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
        code, out, err = run(*arguments)
        message = err.splitlines()[-1]
        assert (code, out) == (2, ""), err
        assert message.startswith("error: ")
        assert "Traceback" not in err
        for part in [words] if isinstance(words, str) else words:
            assert part in message
        assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before

    return call


@pytest.fixture(scope="module")
def contextnet(references):
    """One of the five graphs, of one size."""
    return onnx_from_network(references("IFNet"), "contextnet", ExportOptions(dynamic=False, size="64x96"))


def tiny(inputs: str = "float[1,3,16,24] x, float[1,16,24,2] g") -> onnx.ModelProto:
    """Two convolutions around a warp."""
    nodes = f"c = {CONV} (x, w) [warp] s = {SAMPLE} (c, g) d = {CONV} (s, v) y = Sigmoid (d)"
    out = inputs.split(" x")[0] + " y"
    return model_of(f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} {nodes}", inputs, out)


def saved(model, name: str = "in.onnx") -> str:
    onnx.save(model, name)
    return name


# Files that can't be lowered.


def with_external_data(name: str = "in.onnx") -> Path:
    """A file whose weights are in `in.data`."""
    model = with_initializers(foreign_model(STATIC))
    onnx.save_model(model, name, save_as_external_data=True, location="in.data", size_threshold=0)
    return Path(name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "in.onnx does not exist; expected a binary ONNX model: check the path"),
        (b"", "in.onnx is empty; expected a binary ONNX model: check the path, or export it again"),
        (b"RIFE, but no model\n", "in.onnx is not ONNX, or truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "in.onnx is not ONNX, or truncated"),
        (pickle.dumps([1, 2]), "in.onnx is not ONNX, or truncated"),
    ],
)
def test_no_model(refused, content, words):
    """A file that is missing, empty or no ONNX is called that, with what to do."""
    if content is not None:
        Path("in.onnx").write_bytes(content)
    refused("in.onnx", "-o", "out.onnx", words=words)


def test_truncated(refused, here):
    """A file that ends too early is refused wherever it ends: never lowered in part."""
    whole = tiny().SerializeToString()
    for length in (1, 10, len(whole) // 2, len(whole) - 1):
        Path("in.onnx").write_bytes(whole[:length])
        refused("in.onnx", "-o", "out.onnx", words="in.onnx is not ONNX, or truncated")


def test_external_data(refused, run, here):
    """Weights beside the file are read, and hashed; where they are missing, short or elsewhere, the file is refused."""
    path = with_external_data()
    assert run(path, "-o", "out.onnx")[0] == 0
    assert len(onnx.load("out.onnx", load_external_data=False).graph.initializer[0].external_data) == 0
    content = Path("in.data").read_bytes()
    Path("in.data").write_bytes(content[: len(content) // 2])
    refused(path, "-o", "new.onnx", words=("external data can't be read", "copy or export the model again"))
    Path("in.data").unlink()
    refused(path, "-o", "new.onnx", words=("in.data is missing; expected tensor", "copy it there"))
    Path("in.data").write_bytes(content)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../in.data"
    path.write_bytes(model.SerializeToString())
    refused(path, "-o", "new.onnx", words="outside the model's folder")


def sequence_model() -> onnx.ModelProto:
    """As TorchScript exports torch.split at a dynamic size."""
    nodes = "k = Constant <value_int = 0> () s = SplitToSequence <axis = 1> (x) p = SequenceAt (s, k)"
    return model_of(f"{nodes} y = Concat <axis = 1> (p, p, p)", IMAGE)


def unsorted_model() -> onnx.ModelProto:
    model = plain_model()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    return model


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: model_of("y = Relu (x)", IMAGE, opset=15), ("opset 15", "expected 16 or newer", "export it again")),
        (lambda: half_model(plain_model()), ("has FP16 tensors already", "lower the file that this one was made from")),
        (lambda: half_model(foreign_model(STATIC)), ("FP16", "lower the file that it was made from")),
        (double_model, ("tensor 'd', made by the operator ai.onnx.Cast, is FP64", "export it in FP32")),
        (plain_model, ("no GridSample and no Gather by computed positions", "say so with --without-warp")),
        (lambda: control_flow_model("If"), ("node 'choose' is If", "expected a graph without control flow")),
        (lambda: control_flow_model("Loop"), ("node 'again' is Loop", "unroll the loop")),
        (sequence_model, ("SplitToSequence", "sequences of tensors", "onnx-simplifier")),
        (
            lambda: custom_model(typed=False),
            ("type of tensor 'o', made by the operator my.Odd, is not known", "replace"),
        ),
        (unsorted_model, ("not valid ONNX", "sorted", "export it again")),
        (lambda: model_of("y = Relu (nowhere)", IMAGE), ("not valid ONNX", "nowhere", "export it again")),
        (lambda: model_of("s = Shape (x) y = Add (x, s)", IMAGE), ("not valid ONNX", "Add", "export it again")),
    ],
)
def test_models_that_are_refused(refused, build, words):
    """Each with its reason, the node or tensor, and what to do; onnx.checker's words where it refuses the file."""
    refused(saved(build()), "-o", "out.onnx", "--size", "64x96", words=words)


def test_operators_that_can_not_run_are_refused(refused):
    """Calibration runs the FP32 model: what ONNX Runtime does not know is named."""
    np.savez("feed.npz", x=np.zeros((1, 3, 16, 24), np.float32), g=np.zeros((1, 16, 24, 2), np.float32))
    words = ("my:Odd", "has to run, for calibration", "replace custom ones by standard ones")
    refused(saved(custom_model(typed=True)), "-o", "out.onnx", "--calibrate", "feed.npz", words=words)


def test_functions_of_another_opset_are_refused(refused):
    """Functions are inlined; one that was written for another opset than the model's is named."""
    model = function_model()
    model.functions[0].opset_import[0].version = 17
    refused(saved(model), "-o", "out.onnx", "--size", "64x96", words=("my::WarpConv", "17", "onnx.inliner"))


def test_without_warp(run, here):
    """A graph that does not warp is lowered where that is said; `unet` needs no saying."""
    code, out, err = run(saved(plain_model()), "-o", "out.onnx", "--size", "64x96", "--without-warp")
    assert code == 0, err
    assert "3 nodes float16; 100.0% of the multiply-adds" in out
    assert lint_file(Path("out.onnx")) == []


def test_sizes(refused, run, here):
    """A foreign file of free sizes needs one, a multiple of 32; what no size can tell needs feeds."""
    path = saved(foreign_model())
    refused(path, "-o", "out.onnx", words=("img0 is ['batch', 3, 'height', 'width']", "--size HxW", "--calibrate"))
    refused(path, "-o", "out.onnx", "--size", "100x200", words=("'100x200'", "multiples of 32, such as 96x192"))
    refused(path, "-o", "out.onnx", "--size", "big", words="expected HEIGHTxWIDTH, such as 1088x1920")
    assert run(path, "-o", "out.onnx", "--size", "64x96")[0] == 0
    grid = saved(grid_input_model(), "grid.onnx")
    refused(grid, "-o", "new.onnx", "--size", "64x96", words=("g is ['N', 'H', 'W', 2]", "--calibrate FILE.npz"))


def test_inputs_of_several_sizes(run, here):
    """A grid, and a picture that is wider and lower than the other, get feeds of their own shape."""
    model = model_of(
        'a = GridSample <padding_mode="border", align_corners=1> (x, g) b = GlobalAveragePool (z) y = Add (a, b)',
        "float[1,3,64,96] x, float[1,64,96,2] g, float[1,3,32,128] z",
        "float[1,3,64,96] y",
    )
    assert run(saved(model), "-o", "out.onnx")[0] == 0


def test_an_input_that_no_feed_can_be_made_for(refused):
    """Whole numbers can mean anything."""
    model = model_of(
        'h = Cast <to = 1> (n) b = Mul (x, h) y = GridSample <padding_mode="border", align_corners=1> (b, g)',
        "float[1,3,64,96] x, float[1,64,96,2] g, int64[1] n",
        "float[1,3,64,96] y",
    )
    refused(saved(model), "-o", "out.onnx", words=("n is int64", "give feeds with --calibrate"))


# Feeds of the user.


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def npz(name: str = "feed.npz", **changes) -> str:
    """The feed of `tiny`, with other arrays in it, or without those that are None."""
    arrays = {"x": image(), "g": np.zeros((1, 16, 24, 2), np.float32)} | changes
    np.savez(name, **{key: array for key, array in arrays.items() if array is not None})
    return name


def damaged(**member: bytes) -> None:
    """A zip file with such members."""
    with zipfile.ZipFile("feed.npz", "w") as file:
        for name, content in member.items():
            file.writestr(name.replace("_npy", ".npy"), content)


def image(**change) -> np.ndarray:
    array = np.random.default_rng(0).random((1, 3, 16, 24)).astype(change.get("dtype", np.float32))
    if "value" in change:
        array[0, 1, 3, 4] = change["value"]
    return array


NAMES = "expected g, x"
HEADER = b"\x93NUMPY\x01\x00\x20\x00{'descr': '<f4', 'fortran_order'"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: None, ("feed.npz does not exist", "expected an .npz with an array for each input")),
        (lambda: Path("feed.npz").mkdir(), "feed.npz does not exist or is no file"),
        (lambda: Path("feed.npz").write_bytes(b""), ("feed.npz is no .npz", "write one with numpy.savez")),
        (lambda: Path("feed.npz").write_text("1 2 3"), ("feed.npz is no .npz", "write one with numpy.savez")),
        (lambda: Path("feed.npz").write_bytes(pickle.dumps(Evil())), ("feed.npz is no .npz", "numpy.savez")),
        (
            lambda: Path("feed.npz").write_bytes(npz_bytes()[:1000]),
            ("feed.npz is no .npz, or truncated", "numpy.savez"),
        ),
        (lambda: one_array(), ("feed.npz is no .npz", "write one with numpy.savez")),
        (lambda: flipped(), ("feed.npz can't be read", "write it again with numpy.savez")),
        (lambda: damaged(x=b"a", g=b"b"), ("x is no array", "numpy.savez")),
        (lambda: damaged(x_npy=HEADER, g_npy=HEADER), ("feed.npz can't be read", "write it again with numpy.savez")),
        (
            lambda: npz(x=np.full((1, 3, 16, 24), Evil(), object)),
            ("feed.npz can't be read", "write it again with numpy.savez"),
        ),
        (lambda: npz(x=np.full((1, 3, 16, 24), "a")), "feed.npz: x is <U1; expected numbers"),
        (lambda: npz(g=None), ("arrays named x; ", NAMES, "name them so")),
        (lambda: npz(flow=image()), ("arrays named flow, g, x; ", NAMES)),
        (lambda: np.savez("feed.npz"), ("arrays named (none)", NAMES)),
        (lambda: npz(x=image(value=np.nan)), ("x has NaN or infinite values", "mend the feed")),
        (lambda: npz(x=image(value=np.inf)), ("x has NaN or infinite values", "mend the feed")),
        (lambda: npz(x=image(dtype=np.float64, value=1e300)), ("NaN or infinite in FP32 on the feed feed.npz",)),
        (lambda: npz(x=image()[:, :2]), "feed.npz: x is [1, 2, 16, 24]; expected [1, 3, 16, 24]"),
        (lambda: npz(x=image()[0]), "feed.npz: x is [3, 16, 24]; expected [1, 3, 16, 24]"),
    ],
)
def test_feeds_that_are_refused(refused, here, make, words):
    """Each fault of an .npz is named; nothing that is pickled in one is run."""
    make()
    refused(saved(tiny()), "-o", "out.onnx", "--calibrate", "feed.npz", words=words)
    assert not Path("pwned").exists()


def npz_bytes() -> bytes:
    return Path(npz()).read_bytes()


def one_array() -> None:
    np.save("one.npy", image())
    Path("one.npy").rename("feed.npz")


def flipped() -> None:
    content = bytearray(npz_bytes())
    content[1000] ^= 1
    Path("feed.npz").write_bytes(content)


def test_feeds(run, here):
    """Several files, of other number types, calibrate together: the largest values of any decide."""
    path = saved(tiny())
    npz("first.npz", x=image(dtype=np.float64))
    npz("second.npz", x=(image() * 6e4).astype(np.float16))
    assert run(path, "-o", "mild.onnx", "--calibrate", "first.npz")[0] == 0
    code, _, err = run(path, "-o", "both.onnx", "--calibrate", "first.npz", "--calibrate", "second.npz")
    assert code == 0, err
    assert "calibrate: 2 feeds" in err
    mild, both = (json.loads(Path(f"{name}.onnx.json").read_text())["details"]["nodes"] for name in ("mild", "both"))
    reasons = [node["reason"] for node in both if "on the calibration feeds; FP16 ends at 65504" in node["reason"]]
    assert reasons
    assert not any("calibration feeds" in node["reason"] for node in mild)


# Options and outputs.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "nonsense"], ('lower.precision is "nonsense"', "'fp16'")),
        (
            ["--io", "int8"],
            'lower.io is "int8"',
        ),
        (["--gridsample", "magic"], 'lower.gridsample is "magic"'),
        (["--target-psnr", "50", "--precision", "fp32"], "precision is fp32, where there is nothing to search for"),
        (["--io", "fp16", "--precision", "fp32"], "precision is fp32, with io = fp16; expected io = fp32"),
        (["--target-psnr", "-3"], "target_psnr_db is -3.0; expected decibels between 0 and 400"),
        (["--target-psnr", "nan"], "target_psnr_db is nan"),
        (["--max-error", "2"], "max_error is 2.0; expected a number between 0 and 1"),
        (["--frames", "a.png", "b.png"], "a.png does not exist"),
        (["--calibrate", "absent.npz"], "absent.npz does not exist"),
    ],
)
def test_options_that_are_refused(refused, arguments, words):
    """A wrong value is named as the recipe names it, with what is expected."""
    refused(saved(tiny()), "-o", "out.onnx", *arguments, words=words)


@pytest.mark.parametrize("lost", ["out.onnx", "out.onnx.json"])
def test_what_is_there_is_not_overwritten(refused, run, here, lost):
    """Neither the file nor its manifest, without --force: not a byte; with it, both are new."""
    path = saved(tiny())
    Path(lost).write_text("mine")
    refused(path, "-o", "out.onnx", words=(f"{lost} is there already", "overwrite it with --force"))
    assert run(path, "-o", "out.onnx", "--force")[0] == 0
    assert Path(lost).read_bytes() != b"mine"


def test_the_file_itself_is_not_overwritten(refused, here):
    """By no name and not with --force: IN and OUT are one file, through a link or a folder's other name too."""
    path = saved(tiny())
    Path("link.onnx").symlink_to(path)
    for output in ("in.onnx", "./in.onnx", here / "in.onnx", "link.onnx"):
        refused(path, "-o", output, "--force", words=("is the file to be lowered itself", "another name with --output"))


def test_a_folder_that_can_not_be_made(refused, run, here):
    """It is refused before any work; one that can be is made, with those above it."""
    path = saved(tiny())
    Path("file").write_text("no folder")
    refused(path, "-o", "file/out.onnx", words=("can't make the folder file", "choose another"))
    assert "read in.onnx" not in run(path, "-o", "file/out.onnx")[2]
    assert run(path, "-o", "new/folder/out.onnx")[0] == 0
    Path("folder.onnx").mkdir()
    refused(path, "-o", "folder.onnx", "--force", words="'folder.onnx', which is a folder")


# What is made.


def test_result(run, here):
    """File, manifest and line: types, reasons, options and hash agree; a second run reuses it, byte for byte."""
    path = saved(foreign_model(STATIC))
    code, out, err = run(path, "-o", "out.onnx")
    assert code == 0, err
    assert err.splitlines()[0] == "read in.onnx ..."
    assert "out.onnx  0.0 MiB (FP32: 0.1), " in out
    manifest = json.loads(Path("out.onnx.json").read_text())
    assert manifest["artifact"] == "out.onnx"
    assert manifest["sha256"] == sha256_of_file(Path("out.onnx"))
    assert manifest["size_bytes"] == Path("out.onnx").stat().st_size
    assert manifest["inputs"]["source_sha256"] == sha256_of_file(Path("in.onnx"))
    assert manifest["options"]["precision"] == "fp16"
    assert manifest["options"]["fp32_tail"] is True
    assert {"onnx", "onnx-ir", "refine-export"} <= set(manifest["versions"])
    assert list(manifest["signature"]["inputs"]) == ["img0", "img1", "timestep"]
    details = manifest["details"]
    assert details["search"] is None
    assert details["source_bytes"] == Path("in.onnx").stat().st_size
    assert all(set(node) == {"node", "operator", "type", "reason"} and node["reason"] for node in details["nodes"])
    operators = [node.op_type for node in onnx.load("out.onnx").graph.node if node.op_type != "Cast"]
    assert operators == [node["operator"] for node in details["nodes"] if node["operator"] != "Cast"]

    before = Path("out.onnx").read_bytes(), Path("out.onnx.json").read_bytes()
    code, again, err = run(path, "-o", "out.onnx", "--force")
    assert code == 0
    assert err == ""
    assert again.replace("reused", "") != again
    assert (Path("out.onnx").read_bytes(), Path("out.onnx.json").read_bytes()) == before


def test_only_the_same_is_reused(run, here):
    """Other options, another input, changed bytes or a manifest that lies: it is made again."""
    path = saved(tiny())

    def reused(*arguments):
        code, out, _ = run(path, "-o", "out.onnx", "--force", "--quiet", *arguments)
        assert code == 0
        return "(reused)" in out

    assert not reused()
    assert reused()
    assert not reused("--io", "fp16")
    assert not reused("--gridsample", "gather", "--precision", "fp32")
    assert not reused()
    manifest = json.loads(Path("out.onnx.json").read_text())
    Path("out.onnx.json").write_text(json.dumps(manifest | {"details": {}}))
    assert not reused()
    Path("out.onnx").write_bytes(Path("out.onnx").read_bytes() + b"\x00")
    assert not reused()
    model = tiny()
    model.graph.node[-1].name = "other"
    saved(model)
    assert not reused()
    assert reused()


def test_explain_and_json(run, here):
    """--explain prints each node with its type and reason; --json prints JSON and nothing else."""
    path = saved(tiny())
    code, out, err = run(path, "-o", "out.onnx", "--explain", "--quiet")
    assert (code, err) == (0, "")
    nodes = json.loads(Path("out.onnx.json").read_text())["details"]["nodes"]
    lines = out.splitlines()
    for line, node in zip(lines, nodes, strict=False):
        assert line == f"{node['type']:<9} {node['operator']} {node['node']}: {node['reason']}"
    assert len(lines) == len(nodes) + 2
    assert lines[-2].startswith("on the calibration feeds, rounded as its types say: ")
    assert any(line.startswith("float32   GridSample warp: samples: ") for line in lines)
    code, out, err = run(path, "-o", "out.onnx", "--force", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["path"] == "out.onnx"
    assert result["reused"]
    assert result["nodes"] == nodes
    assert sum(result["types"].values()) == sum(node["type"] != "none" for node in nodes)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], "GridSample"),
        (["--gridsample", "gather"], "GatherND"),
        (["--precision", "bf16"], "GridSample"),
        (["--precision", "fp32", "--gridsample", "gather"], "GatherND"),
        (["--io", "fp16"], "GridSample"),
    ],
)
def test_our_own_graph(run, here, contextnet, options, rule):
    """A file of this tool needs no size: it is calibrated with its own feeds, and its results are near."""
    path = saved(contextnet)
    code, _, err = run(path, "-o", "out.onnx", *options)
    assert code == 0, err
    assert "the graph contextnet" in err
    assert "calibrate: 4 feeds" in err
    assert lint_file(Path("out.onnx")) == []
    assert rule in {node.op_type for node in onnx.load("out.onnx").graph.node}
    random = np.random.default_rng(0)
    feeds = {"image": random.random((1, 3, 64, 96)), "flow": random.uniform(-5, 5, (1, 2, 64, 96))}
    with OrtRunner(Path("in.onnx")) as expected, HalfRunner(Path("out.onnx")) as actual:
        wanted = expected.run({name: array.astype(np.float32) for name, array in feeds.items()})
        given = actual.run({info.name: feeds[info.name].astype(info.dtype) for info in actual.inputs})
    tolerance = 0.04 if "bf16" in options else 4e-3
    for name, array in wanted.items():
        assert np.abs(array - given[name].astype(np.float32)).max() < tolerance * np.abs(array).max()
    assert json.loads(Path("out.onnx.json").read_text())["inputs"]["checkpoint_sha256"]


def test_a_fault_of_the_weights_is_a_note(run, here):
    """What FP16 does not hold is said in a line, and kept in the manifest."""
    model = foreign_model(STATIC)
    node = next(node for node in model.graph.node if node.output[0] == "block0.conv0.0.weight")
    values = numpy_helper.to_array(node.attribute[0].t).copy()
    values[0, 0, 0, 0] = 1e6
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(values, "v"))
    code, out, _ = run(saved(model), "-o", "out.onnx")
    assert code == 0
    assert "note: block0.conv0.0.weight (to 1e+06) does not fit float16: 1 values overflow" in out
    assert "block0.conv0.0.weight" in json.loads(Path("out.onnx.json").read_text())["details"]["notes"][0]


def test_a_fault_of_the_file_is_a_note(run, here):
    """What the lint says of the FP32 file too does not stop the lowering, named or not; the words are passed on."""
    sample = 'y = GridSample <padding_mode="border"> (x, g)'
    for label, name in (("[bad] ", "bad"), ("", "GridSample_1")):
        path = saved(model_of(label + sample, "float[1,3,64,96] x, float[1,64,96,2] g", "float[1,3,64,96] y"))
        code, out, err = run(path, "-o", "out.onnx", "--force")
        assert code == 0, err
        assert f"note: {name}: align_corners is 0; expected 1 (gridsample-corners), as in the FP32 file" in out


@pytest.mark.parametrize("place", ["replace", "fsync"])
def test_an_interrupted_write_leaves_the_old_file(run, here, monkeypatch, place):
    """A full disk or a crash while writing: the old file and its manifest stay, and nothing else is left behind."""
    path = saved(tiny())
    assert run(path, "-o", "out.onnx")[0] == 0
    before = {file.name: file.read_bytes() for file in here.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path if place == "replace" else os, place, full)
    code, _, err = run(path, "-o", "out.onnx", "--force", "--io", "fp16")
    assert code == 2
    assert "error: can't write out.onnx: No space left on device" in err
    assert {file.name: file.read_bytes() for file in here.iterdir()} == before


def test_an_interrupt_leaves_the_old_file(run, here, monkeypatch):
    """Ctrl-C in the middle of the work: exit code 130, the old file as it was."""
    path = saved(tiny())
    assert run(path, "-o", "out.onnx")[0] == 0
    before = {file.name: file.read_bytes() for file in here.iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lowered_file, "check_lowered", interrupted)
    code, _, err = run(path, "-o", "out.onnx", "--force", "--io", "fp16")
    assert code == 130
    assert "interrupted" in err
    assert {file.name: file.read_bytes() for file in here.iterdir()} == before


# Searches.


def test_target(run, here):
    """A target that FP16 misses is met with FP32 regions: exit code 0, a table, the search in the manifest."""
    path = saved(plain_model())
    arguments = (path, "-o", "out.onnx", "--size", "64x96", "--without-warp", "--target-psnr")
    code, out, err = run(*arguments, "100")
    assert code == 0, err
    assert "region" in out
    assert "target met: from" in out
    found = json.loads(Path("out.onnx.json").read_text())["details"]["search"]
    assert found["reached"]
    assert found["start"]["psnr_db"] < 100 <= found["final"]["psnr_db"]
    assert [step["region"] for step in found["steps"]] in (["w"], ["v"])
    islands = [
        node for node in json.loads(Path("out.onnx.json").read_text())["details"]["nodes"] if "isl" in node["reason"]
    ]
    assert [node["node"] for node in islands] == found["islands"]
    code, again, err = run(*arguments, "100", "--force")
    assert (code, err) == (0, "")
    assert "(reused)" in again
    assert again.splitlines()[:-1] == out.splitlines()[:-1]


def test_a_target_that_is_missed(run, here):
    """Exit code 1; the file has every region in FP32, the best there is; so it is when reused."""
    path = saved(plain_model())
    arguments = (path, "-o", "out.onnx", "--size", "64x96", "--without-warp", "--target-psnr", "399")
    code, out, _ = run(*arguments)
    assert code == 1
    assert "target missed: every region is FP32, and that is the best there is" in out
    assert "3 nodes float32" in out
    assert run(*arguments, "--force")[0] == 1


def test_an_exact_result_has_no_psnr(run, here):
    """With FP32 regions nothing may differ at all: in JSON that PSNR is null, on the terminal inf; reused or not."""
    model = model_of("w = Constant <value = float[3,1,1,1] {0.3, 0.7, 0.9}> () y = Conv <group = 3> (x, w)", IMAGE)
    arguments = (saved(model), "-o", "out.onnx", "--size", "64x96", "--without-warp", "--target-psnr", "200")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert " to inf dB, largest error 0.000" in out
    assert json.loads(Path("out.onnx.json").read_text())["details"]["search"]["final"]["psnr_db"] is None
    assert " to inf dB, largest error 0.000" in run(*arguments, "--force")[1]
    code, out, _ = run(*arguments, "--force", "--json")
    assert code == 0
    assert json.loads(out)["search"]["final"] == {"psnr_db": None, "max_error": 0.0}

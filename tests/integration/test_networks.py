"""Every kind of network, on weights by formula: dynamic and static ONNX, strict FP16, numbers, self-test and bisect."""

from importlib.util import find_spec

import onnx
import pytest
from onnx import TensorProto

import refine_export as rx
from refine_export.artifacts import artifact_from_file
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.graph.linter import lint_model
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.self_test_file import self_test_file
from refine_export.self_test.mutants import mutants_of
from refine_export.validate.validate_options import ValidateOptions
from tests.support.bisect_cases import check_found
from tests.support.engine_models import built_by_rtx

RECIPE = Recipe(
    frames=FramesOptions(sample="scene", scene_frames=2),
    scene=SceneOptions(height=60, width=90, motion_px=4.0),
    validate=ValidateOptions(sizes=(), timesteps=(0.2,)),
)


def convolutions_of(model, type_):
    """Count the convolutions whose weights have a type."""
    types = {one.name: one.data_type for one in model.graph.initializer}
    return sum(node.op_type == "Conv" and types[node.input[1]] == type_ for node in model.graph.node)


@pytest.mark.parametrize(
    ("name", "scale", "multiple_of"),
    [
        ("hdv3", 1.0, 32),
        ("rife4_0_refined", 1.0, 32),
        ("rife4_6", 2.0, 32),
        ("rife4_22", 0.5, 64),
        ("rife4_25_lite", 1.0, 128),
        ("rife4_26_heavy", 1.0, 64),
    ],
)
def test_a_network_goes_through_the_pipeline(name, scale, multiple_of, exports, tmp_path):
    checkpoint, dynamic = exports.network(name, scale)
    made = artifact_from_file(dynamic)
    assert (made.multiple_of, made.scale) == (multiple_of, scale)
    files = [dynamic]
    size = tuple(-(-side // multiple_of) * multiple_of for side in (60, 90))
    if multiple_of == 128:  # once is enough, and the largest padding shows most
        options = {"recipe": RECIPE, "scale": scale, "dynamic": False}
        static = rx.export(checkpoint, "interpolator", output=tmp_path / "static.onnx", **options)
        assert static.artifact.fixed == (1, *size)
        files.append(static)
    fp16 = rx.lower(dynamic, output=tmp_path / "fp16.onnx", checkpoint=checkpoint, recipe=RECIPE)
    report = rx.validate([*files, fp16], checkpoint=checkpoint, recipe=RECIPE)

    model = onnx.load(fp16.path)
    assert list(lint_model(model)) == []
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["refine_export.multiple_of"] == str(multiple_of)
    # TensorRT for RTX 1.7.1 fails on the FP32 file of RIFE 4.0 with its refinement: docs/engines.md.
    compiled = [fp16.path] if name == "rife4_0_refined" else [dynamic, fp16.path]
    for path in compiled if find_spec("tensorrt_rtx") else ():
        built = built_by_rtx(path, size)  # refuses wrong types and samplers
        assert built.inferred.unchecked == ()
        assert built.inferred.types["GRID_SAMPLE FLOAT FLOAT -> FLOAT"] == built.samplers.layers > 0
        for number, type_ in ((TensorProto.FLOAT, "FLOAT"), (TensorProto.FLOAT16, "HALF")):
            promised = convolutions_of(onnx.load(path), number)  # HDv3 by formula enlarges errors: they stay FP32
            assert built.inferred.types.get(f"CONVOLUTION {type_} -> {type_}", 0) == promised

    # Formula weights are noise: their limits are not those of trained ones, but the order of the errors is.
    for comparison in report.to_dict()["comparisons"]:
        [frame] = comparison["verdict"]["outputs"]
        assert frame["metrics"]["psnr_db"] > (45 if comparison["file"] == str(fp16.path) else 90)
    sizes = {tuple(one["size"]) for one in report.to_dict()["comparisons"]}
    assert size in sizes
    assert all(side % multiple_of == 0 for one in sizes for side in one)


@pytest.mark.parametrize(
    ("name", "scale", "fault"),
    [("hdv3", 1.0, "swapped-flows"), ("rife4_6", 2.0, "nearest"), ("rife4_26_heavy", 1.0, "weight")],
)
def test_faults_are_found(name, scale, fault, exports, tmp_path):
    """The self-test finds each known-bad file, and bisect the node of one."""
    checkpoint, path = exports.network(name, scale)
    tested = self_test_file(path, checkpoint=checkpoint, recipe=RECIPE)
    assert (tested.status, tested.problems) == ("passed", ())
    names = {"nearest", "zeros-padding", "align-corners", "fp16-coordinates", "swapped-flows", "weight"}
    assert {trial.name for trial in tested.mutants} >= names

    good = onnx.load(path)
    mutant = next(one for one in mutants_of(good, "interpolator") if one.name == fault)
    onnx.save(mutant.model, tmp_path / "bad.onnx")
    check_found(good, mutant, rx.bisect(tmp_path / "bad.onnx", checkpoint=checkpoint, recipe=RECIPE))

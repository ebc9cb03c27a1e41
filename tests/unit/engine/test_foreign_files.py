"""Files of other tools, opset 16 to 22, go the whole way on the real TensorRT for RTX: lint, lower, build."""

import dataclasses

import onnx
import pytest

from refine_export.engine.bindings import Log, load_library
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_from_onnx import engine_from_onnx
from refine_export.engine.onnx_source import read_source
from refine_export.graph.linter import lint_model
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower
from tests.support.engine_models import needs_rtx
from tests.support.foreign import Foreign, foreign_feeds, foreign_model, with_initializers
from tests.support.lowering_cases import FOREIGN, ready

pytestmark = needs_rtx
CASES = {f"opset {opset}": Foreign(opset=opset) for opset in range(16, 23)} | {
    # Static, where a warp is written out: its shape arithmetic takes TensorRT seconds.
    name: options if options.warp == "gridsample" else dataclasses.replace(options, size=(64, 96))
    for name, options in FOREIGN.items()
    if "opset" not in name
}


def built(model, path, **sizes):
    onnx.save_model(model, path)
    options = BuildOptions(target="rtx", **sizes)
    library = load_library("rtx")
    shapes = read_source(path, options).shapes
    return engine_from_onnx(library, path.read_bytes(), options, shapes, log=Log(library.module))


@pytest.mark.parametrize("name", CASES)
def test_a_foreign_file_is_linted_lowered_and_built(name, tmp_path):
    """Opset 20 spells its sampler `linear`, which this parser reads as the standard has it."""
    options = CASES[name]
    model = foreign_model(options)
    errors = {one.rule for one in lint_model(model) if one.severity == "error"}
    assert errors == ({"gridsample-nearest"} if options.opset >= 20 else set())
    height, width = options.size or (64, 96)
    lowered = lower(ready(model, foreign_feeds(options, height, width)), LowerOptions()).model
    sizes = {} if options.size else {"min_size": "64x64", "opt_size": "64x96", "max_size": "96x128"}
    made = built(lowered, tmp_path / "m.onnx", **sizes)
    samplers = 6 if options.warp == "gridsample" else 0
    assert (made.samplers.layers, made.samplers.repairs) == (samplers, ())
    expected = {"CONVOLUTION HALF -> HALF": 9, "DECONVOLUTION HALF -> HALF": 2}
    assert made.inferred.types == expected | ({"GRID_SAMPLE FLOAT FLOAT -> FLOAT": samplers} if samplers else {})


def test_weights_may_be_inputs_as_ir_version_3_has_them(tmp_path):
    models = foreign_model(), with_initializers(foreign_model(), as_inputs=True)
    plain, made = (built(model, tmp_path / "m.onnx", opt_size="64x96") for model in models)
    assert made.memory["weight_bytes"] == plain.memory["weight_bytes"] > 0
    assert made.inferred.types == plain.inferred.types

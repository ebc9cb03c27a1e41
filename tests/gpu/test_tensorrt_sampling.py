"""The samplers of the real TensorRT: misreadings of its parser are repaired, and fallbacks end with right numbers."""

import dataclasses

import onnx
import pytest

from refine_export.accuracy.limits import Limits
from refine_export.engine import engine_from_onnx as build_module
from refine_export.engine.bindings import load_library
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.engine.engine_runner import TrtRunner, process_log
from refine_export.engine.grid_sample_check import GridSampleReport
from refine_export.errors import RequestError
from refine_export.jobs.build_engine import build
from refine_export.runners.sampler_probe import probe_model, sampler_problems
from tests.support.real_tensorrt import LIMITS, file_of, least, numbers_in_words, operators_of, worst

pytestmark = pytest.mark.tensorrt


def at_opset_20(model):
    """As torch exports by default: `linear`, which TensorRT's parser takes for nearest (NVIDIA/TensorRT#4646)."""
    model.opset_import[0].version = 20
    changed = 0
    for node in model.graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name) == ("GridSample", "mode"):
                assert attribute.s == b"bilinear"
                attribute.s = b"linear"
                changed += 1
    assert changed
    return model


def probed(content):
    """The problems of an engine of the probe, and what the check repaired."""
    library = load_library("trt")
    options = BuildOptions(optimization_level=1)
    built = build_module.engine_from_onnx(library, content, options, (), log=process_log(library.module))
    with TrtRunner(built.engine, unchecked=True) as runner:
        return sampler_problems(runner.run), built.samplers


def test_the_check_repairs_what_the_parser_reads_wrong(monkeypatch, record_property):
    """With it opset 20 samples as opset 18 does; without it, where it had to repair, the nearest pixel comes out."""
    usual, report = probed(probe_model())
    assert report == GridSampleReport(layers=2, sampling={"LINEAR CLAMP aligned": 2}, repairs=())
    linear = at_opset_20(onnx.load_model_from_string(probe_model())).SerializeToString()
    repaired, report = probed(linear)
    record_property("repairs at opset 20", len(report.repairs))
    assert repaired == usual
    assert {(one.attribute, one.found, one.set) for one in report.repairs} <= {
        ("interpolation_mode", "NEAREST", "LINEAR")
    }
    assert len(report.repairs) in (0, 2)
    version = load_library("trt").version
    if usual:
        pytest.xfail(f"TensorRT {version} samples wrongly at opset 18 too: {usual}")
    monkeypatch.setattr(
        build_module,
        "check_grid_samples",
        lambda *_: GridSampleReport(layers=2, sampling={"LINEAR CLAMP aligned": 2}, repairs=()),
    )
    assert probed(linear)[0] == (("nearest",) if report.repairs else ())


def test_a_file_of_opset_20_gives_an_engine_that_is_right(workshop, tmp_path, record_property):
    source = tmp_path / "linear.onnx"
    onnx.save(at_opset_20(onnx.load(workshop.file("contextnet", "fp32"))), source)
    made = workshop.build(source, tmp_path / "linear.plan")
    record_property("fallbacks", numbers_in_words(made))
    assert made.fallback == workshop.engine("contextnet", "fp32").fallback  # of opset 18
    with TrtRunner(made.path) as runner:
        workshop.assert_exact(runner, workshop.feeds(), "fp32")


def forced(workshop, graph, fallback):
    """The engine of a fallback, or why there is none."""
    try:
        return workshop.engine(graph, fallback=fallback), ""
    except RequestError as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("graph", "fallback"),
    [("refine", "native"), ("refine", "unfused"), ("refine", "gather"), ("refine", "fp32"), ("interpolator", "gather")],
)
def test_a_fallback_that_is_forced_is_right_or_named_and_passed_over(workshop, graph, fallback, record_property):
    """Some versions fuse GridSample wrongly (NVIDIA/TensorRT#4813, pytorch/TensorRT#4074); two fallbacks lack it."""
    made, failed = forced(workshop, graph, fallback)
    if made is None:
        assert fallback in ("native", "unfused"), failed
        assert f"{fallback} failed: max_abs" in failed or "samples wrongly" in failed
        version = load_library("trt").version
        chosen = workshop.engine(graph)
        assert chosen.manifest.details["fallbacks"][-1]["status"] == "passed"
        pytest.xfail(f"TensorRT {version}: {failed}; by itself the tool takes {chosen.fallback}")
    record_property("numbers", numbers_in_words(made))
    [tried] = made.manifest.details["fallbacks"]
    assert (made.fallback, tried["status"]) == (fallback, "passed")
    limits = LIMITS.of(graph, "fp32" if fallback == "fp32" else "fp16")
    assert 0 < worst(tried) <= limits.max_abs
    assert least(tried) >= limits.psnr_db
    samplers = operators_of(file_of(made, workshop.file(graph))).count("GridSample")
    assert made.manifest.details["samplers"]["layers"] == samplers
    assert (samplers == 0) == (fallback == "gather")
    assert bool(made.manifest.details["unfused"]) == (fallback == "unfused")
    assert artifact_from_engine(made.path).precision == ("fp32" if fallback == "fp32" else "fp16")


def test_the_fallbacks_go_on_to_one_that_is_exact_enough(workshop, tmp_path, record_property):
    """With a limit that no FP16 engine keeps, FP32 is left, which has limits of its own."""
    recipe = workshop.recipe(optimization_level=1)
    strict = dataclasses.replace(LIMITS, contextnet_fp16=Limits(max_abs=1e-6, psnr_db=300.0))
    recipe = dataclasses.replace(recipe, validate=dataclasses.replace(recipe.validate, limits=strict))
    made = build(workshop.file(), output=tmp_path / "m.plan", recipe=recipe)
    record_property("fallbacks", numbers_in_words(made))
    tried = {one["fallback"]: one["status"] for one in made.manifest.details["fallbacks"]}
    assert tried == {"native": "failed", "unfused": "failed", "gather": "failed", "fp32": "passed"}
    assert set(made.manifest.details["precision"]["wanted"]) == {"Float"}
    with TrtRunner(made.path) as runner:
        workshop.assert_exact(runner, workshop.feeds(), "fp32")

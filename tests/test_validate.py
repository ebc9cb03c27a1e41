"""Verdicts: good files pass, known-bad files fail, and what was not run is never green."""

import dataclasses
import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from refine_export.errors import RequestError
from refine_export.export import ExportOptions, onnx_from_network
from refine_export.feeds import Feed, feeds_for, probe_for
from refine_export.limits import Limits, LimitsOptions
from refine_export.metrics import compare, signal_to_noise
from refine_export.runners.base import Runner, TensorInfo
from refine_export.runners.ort import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES
from refine_export.validate import Candidate, ValidateOptions, group_status, overall, validate
from refine_export.validate import judged as judged_output

OPTIONS = ValidateOptions()


def candidate_of(**given):
    return Candidate(file="tested.onnx", limits=LimitsOptions().refine_fp32, **given)


def architecture_of(graph):
    return "IFNet_m" if graph == "interpolator_m" else "IFNet"


def verdicts(reference, graph, model, pair, options=OPTIONS):
    with TorchRunner(reference, graph) as expected, OrtRunner(model.SerializeToString()) as actual:
        candidates = [candidate_of(runtime="onnxruntime-cpu", runner=actual)]
        feeds = feeds_for(reference, graph, pair, kinds=options.flows)
        return [found.verdict for found in validate(SIGNATURES[graph], expected, candidates, feeds)]


@pytest.fixture(scope="module")
def models(references):
    known = {}

    def get(graph, size=None):
        if (graph, size) not in known:
            options = ExportOptions(dynamic=size is None, size=size)
            known[graph, size] = onnx_from_network(references(architecture_of(graph)), graph, options)
        copy = onnx.ModelProto()
        copy.CopyFrom(known[graph, size])
        return copy

    return get


@pytest.mark.parametrize("graph", list(SIGNATURES))
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_good_files_pass_at_256x448(references, models, pair_at, graph, dynamic):
    found = verdicts(
        references(architecture_of(graph)), graph, models(graph, None if dynamic else "256x448"), pair_at(256, 448)
    )
    assert [verdict.status for verdict in found] == ["passed"] * len(found)
    assert len(found) == (1 if graph.startswith("interpolator") else 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "dynamic"), [("refine", False), ("refine", True), ("interpolator", True), ("interpolator_m", True)]
)
def test_good_files_pass_at_1088x1920(references, models, pair_at, graph, dynamic):
    """The size that ships; the flow with the largest errors is enough, as every kind is measured by the main job."""
    options = ValidateOptions(flows=("outside",))
    model = models(graph, None if dynamic else "1088x1920")
    found = verdicts(references(architecture_of(graph)), graph, model, pair_at(1088, 1920), options)
    assert [verdict.status for verdict in found] == ["passed"]


def grid_samples(model):
    return [node for node in model.graph.node if node.op_type == "GridSample"]


def with_attribute(model, name, value):
    for node in grid_samples(model):
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return model


def nearest(model):
    return with_attribute(model, "mode", "nearest")


def zeros_padding(model):
    return with_attribute(model, "padding_mode", "zeros")


def unaligned(model):
    return with_attribute(model, "align_corners", 0)


def half_coordinates(model):
    """Round the grid to FP16 and back, as converters do that treat it like any tensor."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "GridSample":
            grid = node.input[1]
            nodes.append(helper.make_node("Cast", [grid], [f"{grid}/half"], to=onnx.TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{grid}/half"], [f"{grid}/single"], to=onnx.TensorProto.FLOAT))
            node.input[1] = f"{grid}/single"
        nodes.append(node)
    unique = list({node.output[0]: node for node in nodes}.values())
    del model.graph.node[:]
    model.graph.node.extend(unique)
    return model


def swapped_flows(model):
    """Each half of the flow warps the other image's features."""
    slices = [node for node in model.graph.node if node.op_type == "Slice" and node.input[0] == "flow"]
    first, second = slices
    for one, other in ((1, 1), (2, 2)):
        first.input[one], second.input[other] = second.input[other], first.input[one]
    return model


def one_wrong_weight(model):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "unet.down2.conv1.0.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.05), tensor.name))
    return model


@pytest.mark.parametrize(
    "spoil", [nearest, zeros_padding, unaligned, half_coordinates, swapped_flows, one_wrong_weight]
)
def test_known_bad_files_fail(references, models, pair_at, spoil):
    """The gate is shown to fail on each of the errors that it is there for."""
    bad = spoil(models("refine"))
    found = verdicts(references("IFNet"), "refine", bad, pair_at(256, 448))
    assert overall(verdict.status for verdict in found) == "failed"
    assert any("largest error" in reason for verdict in found for reason in verdict.reasons)


def fixed_timestep(model):
    """The timestep that was asked for is not looked at."""
    half = numpy_helper.from_array(np.full((1, 1, 1, 1), 0.5, np.float32), "fixed")
    model.graph.initializer.append(half)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "timestep":
                node.input[index] = "fixed"
    return model


def backwards(model):
    """1 - t where t was asked for."""
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    for node in model.graph.node:
        node.input[:] = ["backwards" if name == "timestep" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Sub", ["one", "timestep"], ["backwards"]))
    return model


@pytest.mark.parametrize("spoil", [fixed_timestep, backwards])
def test_a_wrong_timestep_fails(references, models, pair_at, spoil):
    reference = references("IFNet_m")
    with (
        TorchRunner(reference, "interpolator_m") as expected,
        OrtRunner(spoil(models("interpolator_m")).SerializeToString()) as actual,
    ):
        feeds = feeds_for(reference, "interpolator_m", pair_at(64, 96), timesteps=OPTIONS.timesteps)
        candidates = [candidate_of(runtime="onnxruntime-cpu", runner=actual)]
        found = list(validate(SIGNATURES["interpolator_m"], expected, candidates, feeds))
    assert [compared.verdict.status for compared in found] == ["passed", "failed"]


class Fake(Runner):
    """Returns what it is told to."""

    backend, version, device, provider, inputs, outputs = "fake", "0", "cpu", "fake", (), ()

    def __init__(self, answer):
        self._answer = answer
        self.runs = 0

    def run(self, feeds):
        return self._run(feeds)

    def _run(self, feeds):
        self.runs += 1
        answer = self._answer(feeds) if callable(self._answer) else self._answer
        if isinstance(answer, Exception):
            raise answer
        return answer


FRAME = np.full((1, 3, 64, 96), 0.5, np.float32)


def judged(candidate, pair, references):
    feeds = feeds_for(references("IFNet"), "interpolator", pair)
    found = list(validate(SIGNATURES["interpolator"], Fake({"frame": FRAME}), [candidate], feeds))
    return found[0].verdict


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"frame": FRAME.copy()}, "passed", None),
        ({"frame": FRAME + np.float32(5e-5)}, "failed", "PSNR 86"),
        ({"frame": FRAME * np.float32(np.nan)}, "failed", "18432 NaN"),
        ({"frame": np.full_like(FRAME, np.inf)}, "failed", "18432 infinite"),
        ({"frame": FRAME[:, :, :32]}, "failed", r"frame is \[1, 3, 32, 96\]; the reference has \[1, 3, 64, 96\]"),
        ({}, "failed", "frame is not there"),
        (RequestError("the session fell over"), "failed", "fell over"),
    ],
)
def test_verdicts(references, pair_at, answer, status, reason):
    verdict = judged(candidate_of(runtime="fake", runner=Fake(answer)), pair_at(64, 96), references)
    assert verdict.status == status
    if reason is None:
        assert verdict.reasons == ()
    else:
        assert re.search(reason, " ".join(verdict.reasons))


def test_each_graph_and_precision_has_its_limits():
    """Those of 16 bits are wider, whatever the graph."""
    for graph in SIGNATURES:
        fp32, fp16, bf16 = (LimitsOptions().of(graph, precision) for precision in ("fp32", "fp16", "bf16"))
        assert fp32.max_abs < fp16.max_abs <= bf16.max_abs
        assert fp32.psnr_db > fp16.psnr_db >= bf16.psnr_db


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"p999_abs": 1e-6}, r"99.9th percentile of the error 1.\d+e-06 of the peak, above 1e-06"),
        ({"ssim": 1.0}, "SSIM 0.999999, below 1"),
        ({"flicker": 1e-7}, "flicker 2e-07 of the peak, above 1e-07"),
        ({"snr_db": 50.0}, "signal to noise on the probe 45.00 dB, below 50"),
    ],
)
def test_each_limit_that_is_missed_is_a_reason(limits, reason):
    metrics = dataclasses.replace(
        compare(FRAME, FRAME + np.float32(1e-6), "residual"), ssim=0.999999, flicker=2e-7, snr_db=45.0
    )
    kept = Limits(max_abs=1e-4, psnr_db=90.0)
    assert judged_output("residual", metrics, kept).status == "passed"
    verdict = judged_output("residual", metrics, dataclasses.replace(kept, **limits))
    assert verdict.status == "failed"
    assert re.search(reason, verdict.reasons[0])
    assert len(verdict.reasons) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_abs": 1.0}, "max_abs is 1.0"),
        ({"psnr_db": 0.0}, "psnr_db is 0.0"),
        ({"psnr_db": float("nan")}, "psnr_db is nan"),
        ({"ssim": 1.1}, "ssim is 1.1"),
        ({"flicker": 0.0}, "flicker is 0.0"),
        ({"snr_db": 0.0}, "snr_db is 0.0"),
        ({"p999_abs": 0.1}, "it would limit nothing"),
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Limits(**{"max_abs": 0.05, "psnr_db": 58.0} | wrong)


@pytest.mark.parametrize(
    ("statuses", "options", "status"),
    [
        ("PPPP", {}, "passed"),
        ("PPPF", {}, "failed"),
        ("PPPF", {"share": 0.75}, "passed"),
        ("PPFF", {"share": 0.75}, "failed"),
        ("PPPF", {"share": 0.5, "may_fail": 0}, "failed"),
        ("PPFF", {"share": 0.5, "may_fail": 2}, "passed"),
        ("PFFF", {"share": 0.1, "may_fail": 2}, "failed"),
        ("PPP-", {"share": 0.1}, "not compared"),
        ("PF--", {"share": 0.5}, "not compared"),
        ("FF--", {"share": 0.5}, "failed"),
        ("----", {"share": 0.1}, "not compared"),
        ("", {}, "not compared"),
        ("FFFF", {"share": 0.0001}, "failed"),
    ],
)
def test_a_group_passes_by_share_and_number(statuses, options, status):
    """P passed, F failed, - not compared."""
    words = {"P": "passed", "F": "failed", "-": "not compared"}
    assert group_status([words[letter] for letter in statuses], ValidateOptions(**options)) == status


class Noisy(Fake):
    """FRAME with another constant error in each run."""

    def run(self, feeds):
        answer = super().run(feeds)
        return {name: array + np.float32(1e-3 * self.runs**2) for name, array in answer.items()}


def test_flicker_is_the_change_of_the_error_within_a_sequence():
    reference, noisy = Fake({"residual": FRAME}), Noisy({"residual": FRAME})
    places = [("clip", 0), ("clip", 1), ("clip", 2), ("other", 3), (None, 0), ("other", 4), ("other", 6)]
    feeds = [
        Feed(name=str(number), inputs={}, size=(64, 96), largest_flow_px=None, sequence=sequence, index=index)
        for number, (sequence, index) in enumerate(places)
    ]
    found = [
        compared.verdict.outputs[0].metrics.flicker
        for compared in validate(SIGNATURES["refine"], reference, [candidate_of(runtime="a", runner=noisy)], feeds)
    ]
    first, second, third = (pytest.approx(value, rel=1e-4) for value in (3e-3, 5e-3, 20e-3))
    assert found == [None, first, second, None, None, third, None]


def test_signal_to_noise_counts_no_rounding_of_the_output():
    """0.02 of variation around 0.5, wrong by 1e-5: 60 dB as FP32, and as FP16, whose steps are 50 times larger."""
    generator = np.random.default_rng(0)
    reference = (0.5 + 0.01 * generator.standard_normal((1, 3, 256, 256))).astype(np.float32)
    candidate = reference + np.float32(1e-5) * generator.standard_normal(reference.shape).astype(np.float32)
    assert signal_to_noise(reference, candidate) == pytest.approx(60, abs=0.1)
    assert signal_to_noise(reference, candidate * 2 - reference) == pytest.approx(54, abs=0.1)
    rough = reference + 10 * (candidate - reference)
    assert signal_to_noise(reference, rough.astype(np.float16)) == pytest.approx(40, abs=1)
    assert signal_to_noise(FRAME, FRAME + 1) is None
    assert signal_to_noise(reference, reference) is None


def test_the_probe_is_measured_and_other_feeds_are_not(references, pair_at):
    network = references("IFNet")
    [probe] = probe_for(network, "refine", (64, 96))
    other = next(feeds_for(network, "refine", pair_at(64, 96), kinds=("zero",)))
    assert list(probe_for(network, "interpolator", (64, 96))) == []
    noise = np.random.default_rng(0).standard_normal(FRAME.shape).astype(np.float32)
    reference, wrong = Fake({"residual": noise}), Fake({"residual": noise * np.float32(1.001)})
    found = [
        compared.verdict.outputs[0].metrics.snr_db
        for compared in validate(
            SIGNATURES["refine"], reference, [candidate_of(runtime="a", runner=wrong)], [probe, other]
        )
    ]
    assert found == [pytest.approx(60, abs=0.2), None]


def test_a_histogram_counts_every_value_once():
    error = np.array([0.0, 5e-8, 1e-3, 2e-3, 0.5, 0.5], np.float32).reshape(1, 1, 1, 6)
    zero = np.zeros_like(error)
    counts = compare(zero, error, "residual").histogram
    assert counts == (1, 1, 0, 0, 0, 1, 1, 0, 2)
    assert sum(counts) == error.size


def test_a_feed_is_rounded_to_what_a_file_takes(references, pair_at):
    """An FP16 input is the candidate's doing: it gets float16, the reference float32."""
    seen = {}
    runner = Fake(lambda feeds: seen.update(feeds) or {"frame": FRAME})
    runner.inputs = (TensorInfo(name="img0", dtype="float16", shape=("N", 3, "H", "W")),)
    judged(candidate_of(runtime="fake", runner=runner), pair_at(64, 96), references)
    assert (seen["img0"].dtype, seen["img1"].dtype) == (np.float16, np.float32)


def test_one_bad_pixel_fails(references, pair_at):
    """A PSNR of 90 dB forgives one pixel of 1e-3; the largest error does not."""
    frame = FRAME.copy()
    frame[0, 0, 5, 5] += 1e-3
    verdict = judged(candidate_of(runtime="fake", runner=Fake({"frame": frame})), pair_at(64, 96), references)
    assert verdict.outputs[0].metrics.psnr_db > 90
    assert verdict.status == "failed"


def test_what_is_missing_is_not_compared(references, pair_at):
    candidate = candidate_of(runtime="onnxruntime-cuda", runner=None, missing="no GPU")
    verdict = judged(candidate, pair_at(64, 96), references)
    assert (verdict.status, verdict.reasons, verdict.outputs) == ("not compared", ("no GPU",), ())


def test_what_is_refused_fails(references, pair_at):
    verdict = judged(candidate_of(runtime="x", runner=None, refused="bad opset"), pair_at(64, 96), references)
    assert (verdict.status, verdict.reasons) == ("failed", ("bad opset",))


def test_a_reference_that_overflows_is_the_weights_fault(references, pair_at):
    reference = Fake({"frame": np.full_like(FRAME, np.nan)})
    feeds = feeds_for(references("IFNet"), "interpolator", pair_at(64, 96))
    with pytest.raises(RequestError, match="the reference itself gives NaN or infinity in frame on interpolator 64x96"):
        list(validate(SIGNATURES["interpolator"], reference, [], feeds))


def test_overall():
    assert overall(["passed", "passed"]) == "passed"
    assert overall(["passed", "not compared"]) == "not compared"
    assert overall(["passed", "not compared", "failed"]) == "failed"
    assert overall([]) == "not compared"


def test_a_candidate_costs_its_own_run_only(references, pair_at):
    """F feeds and C candidates: F runs of the reference, F of each candidate."""
    reference, first, second = (Fake({"residual": FRAME}) for _ in range(3))
    candidates = [candidate_of(runtime="a", runner=first), candidate_of(runtime="b", runner=second)]
    feeds = feeds_for(references("IFNet"), "refine", pair_at(64, 96))
    assert len(list(validate(SIGNATURES["refine"], reference, candidates, feeds))) == 12
    assert (reference.runs, first.runs, second.runs) == (6, 6, 6)


def test_options_refuse():
    for wrong, message in (
        ({"flows": ()}, "flows is empty"),
        ({"share": 0.0}, "share is 0.0"),
        ({"may_fail": -1}, "may_fail is -1"),
        ({"timesteps": (1.0,)}, r"timesteps has 1.0"),
        ({"flows": ("large", "large")}, "flows has the same value twice"),
        ({"sizes": ("64x95",)}, "sizes: size is '64x95'; expected multiples of 32, such as 64x96"),
    ):
        with pytest.raises(ValueError, match=message):
            ValidateOptions(**wrong)

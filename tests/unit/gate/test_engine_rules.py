"""A report fails the gate where an engine is not what its file promised, whatever its verdicts say."""

import dataclasses

import pytest

from refine_export.gate.decision import decide
from refine_export.report.engine_proof import EngineProof
from tests.support.gate_reports import report_of

TYPES = {
    "CONVOLUTION HALF -> HALF": 25,
    "DECONVOLUTION HALF -> HALF": 4,
    "GRID_SAMPLE FLOAT FLOAT -> FLOAT": 8,
}
ENGINE = EngineProof(
    graph="refine",
    file="refine.fp16.rtx",
    library="rtx",
    target="TensorRT for RTX 1.7.1.116 on RTX GPUs (Ampere and newer)",
    proven="built and type-checked by TensorRT for RTX 1.7.1; not executed: no RTX GPU",
    executed=False,
    fallback="native",
    types=TYPES,
    promised=TYPES,
    unchecked=(),
    samplers=8,
    sampling={"LINEAR CLAMP aligned": 8},
    repairs=(),
    memory={},
    layers={"CONVOLUTION": 25, "DECONVOLUTION": 4, "GRID_SAMPLE": 8, "CAST": 23},
)


def decided(**fields):
    report = report_of(engines=(dataclasses.replace(ENGINE, **fields),))
    return decide(report)


def test_a_whole_proof_passes():
    assert decided().status == "passed"
    gathered = {name: count for name, count in TYPES.items() if not name.startswith("GRID")}
    layers = {"CONVOLUTION": 25, "DECONVOLUTION": 4}
    fields = {"types": gathered, "promised": gathered, "layers": layers, "samplers": 0, "sampling": {}}
    assert decided(fallback="gather", **fields).status == "passed"
    assert decided(fallback="native", **fields).status == "failed"


@pytest.mark.parametrize(
    "fields",
    [
        {"types": TYPES | {"CONVOLUTION HALF -> HALF": 24, "CONVOLUTION FLOAT -> FLOAT": 1}},  # promised as FP16
        {"types": {}, "promised": {}},
        {"sampling": {"LINEAR CLAMP aligned": 7, "NEAREST CLAMP aligned": 1}},
        {"sampling": {"LINEAR FILL aligned": 8}},
        {"sampling": {"LINEAR CLAMP not aligned": 8}},
        {"sampling": {"LINEAR CLAMP aligned": 7}},
        {"sampling": {}},
        {"samplers": 7},
        {"layers": {"CONVOLUTION": 26, "DECONVOLUTION": 4, "GRID_SAMPLE": 8}},
        {"layers": {"CONVOLUTION": 25, "DECONVOLUTION": 4}},
        {"proven": ""},
        {"proven": "built and type-checked by TensorRT for RTX 1.7.1; compared with torch"},
        {"executed": True},
    ],
)
def test_what_is_not_proven_fails(fields):
    decision = decided(**fields)
    assert decision.status == "failed"
    assert {(problem.rule, problem.what) for problem in decision.problems} == {("engine-proof", ENGINE.file)}


def test_coordinates_of_16_bits_fail_even_where_they_are_promised():
    types = {**TYPES, "GRID_SAMPLE HALF HALF -> HALF": 8}
    del types["GRID_SAMPLE FLOAT FLOAT -> FLOAT"]
    assert decided(types=types, promised=types).status == "failed"

"""Files to measure: sizes that they take, inputs and work at a size."""

import dataclasses

import onnx
import pytest

from refine_export.bench.bench_files import FOREIGN, bench_file, points_of
from refine_export.errors import GraphError, RequestError
from tests.support.foreign import Foreign, foreign_model
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def dynamic(exports):
    return bench_file(exports.fp32("contextnet"))


@pytest.fixture(scope="module")
def static(exports):
    return bench_file(exports.fp32("contextnet", size="64x96"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "rife.onnx"
    onnx.save(foreign_model(Foreign(stacked=True)), path)
    return bench_file(path)


def test_a_file_of_another_tool_is_measured_with_its_own_inputs(foreign):
    assert (foreign.graph, foreign.artifact, foreign.precision) == (FOREIGN, None, None)
    [stacked] = foreign.inputs_at((2, 64, 128))
    assert (stacked.shape, stacked.dtype) == ((2, 8, 64, 128), "float32")
    with refused("not-found", GraphError):
        bench_file(foreign.path.with_name("other.onnx"))
    model = onnx.load(foreign.path)
    model.graph.input[0].type.tensor_type.elem_type = 99
    onnx.save(model, foreign.path.with_name("bad.onnx"))
    with refused("invalid-onnx", GraphError):
        points_of([bench_file(foreign.path.with_name("bad.onnx"))], [(64, 96)], [], (64, 96))


def test_sizes_are_those_given_else_those_of_static_files_else_those_of_the_frames(dynamic, static, foreign):
    assert points_of([dynamic], [(64, 64), (96, 64)], [1, 2], (50, 60)) == [
        (1, 64, 64),
        (2, 64, 64),
        (1, 96, 64),
        (2, 96, 64),
    ]
    assert points_of([dynamic, static], [], [], (256, 448)) == [(1, 64, 96)]
    assert points_of([dynamic], [], [], (50, 60)) == [(1, 64, 64)]
    assert points_of([dynamic, foreign], [], [3], (50, 70)) == [(3, 64, 128)]


def test_sizes_that_a_file_does_not_take_are_refused(dynamic, static, tmp_path):
    for sizes, batches in ([(64, 64)], []), ([], [2]):
        with refused("size-not-taken", RequestError, path=static.path):
            points_of([dynamic, static], sizes, batches, (64, 96))
    with refused("wrong-size"):
        points_of([dynamic], [(64, 100)], [], (64, 96))
    other = dataclasses.replace(static, artifact=dataclasses.replace(static.artifact, fixed=(1, 128, 96)))
    with refused("different-sizes"):
        points_of([static, other], [], [], (64, 96))
    path = tmp_path / "static.onnx"
    onnx.save(foreign_model(Foreign(size=(64, 96))), path)
    with refused("size-not-taken"):
        points_of([bench_file(path)], [(64, 64)], [], (64, 96))


def test_an_engine_takes_what_its_profile_takes(dynamic):
    artifact = dataclasses.replace(dynamic.artifact, profile=((1, 64, 64), (1, 96, 96), (2, 128, 128)))
    engine = dataclasses.replace(dynamic, artifact=artifact, model=None)
    assert points_of([engine], [], [], (256, 448)) == [(1, 96, 96)]
    with refused("size-not-taken"):
        points_of([engine], [(256, 64)], [], (64, 64))
    assert engine.work_at((1, 96, 96)) is None


def test_work_follows_the_size_and_is_not_guessed(dynamic, static, foreign):
    # 3->16, 16->16, 16->32, 32->32, 32->64, 64->64, 64->128, 128->128 channels, each 3x3, the odd ones at stride 2
    channels = [(3, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]
    by_hand = sum(9 * a * b * (64 >> k // 2 + 1) * (96 >> k // 2 + 1) for k, (a, b) in enumerate(channels))
    one = dynamic.work_at((1, 64, 96))
    assert one.multiply_adds == static.work_at((1, 64, 96)).multiply_adds
    assert one.multiply_adds == by_hand
    assert dynamic.work_at((2, 128, 96)).multiply_adds == 4 * by_hand
    features = sum(c * (64 >> k) * (96 >> k) for k, c in enumerate((16, 32, 64, 128), 1))
    weights = sum(9 * a * b + 2 * b for a, b in channels)  # with biases and slopes
    assert 0 <= one.least_bytes - 4 * (5 * 64 * 96 + features + weights) < 20_000  # axes and positions beside them
    assert foreign.work_at((1, 64, 64)).multiply_adds > 0
    unknown = onnx.ModelProto()
    unknown.CopyFrom(dynamic.model)
    unknown.graph.node[0].domain = "of.someone.else"
    assert dataclasses.replace(dynamic, model=unknown).work_at((1, 64, 96)) is None

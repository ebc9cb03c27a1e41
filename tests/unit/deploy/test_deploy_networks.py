"""What can be served together, with which options, and what is refused with the reason."""

from __future__ import annotations

import onnx
import pytest

from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.releases import NEWEST, RELEASES, releases_with
from refine_export.deploy.triton.served_artifacts import read_source
from refine_export.deploy.triton.served_models import networks_from_sources
from refine_export.errors import GraphError, RequestError
from tests.support.deploy_files import write_average, write_plan

PROFILE = ((1, 64, 96), (4, 256, 448), (8, 1088, 1920))


def test_types_of_a_plan_whose_manifest_does_not_say_them(tmp_path):
    half = write_average(tmp_path / "h.onnx", dtype="float16")
    full = write_plan(tmp_path / "f.plan", write_average(tmp_path / "f.onnx"), PROFILE, types=False)
    plan = write_plan(tmp_path / "h.plan", half, PROFILE, types=False)
    assert set(read_source(full, None).types.values()) == {"TYPE_FP32"}
    with pytest.raises(RequestError, match="give the --io that it was lowered with"):
        read_source(plan, None)
    assert set(read_source(plan, "fp32").types.values()) == {"TYPE_FP32"}
    assert read_source(plan, "fp16").types == read_source(half, None).types


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "onnx"}, "backend is 'onnx'; expected auto, python"),
        ({"device": "tpu"}, "device is 'tpu'; expected auto, gpu, cpu"),
        ({"accelerator": "openvino"}, "accelerator is 'openvino'; expected none, cuda, tensorrt"),
        ({"instances": 0}, "instances is 0; expected 1 to 64"),
        ({"max_batch": 0}, "max_batch is 0; expected 1 to 128"),
        ({"delay_us": -1}, "delay_us is -1; expected 0 to"),
        ({"graph_level": 3}, "graph_level is 3; expected 0, 1, -1 or 2"),
        ({"version_policy": "newest"}, "version_policy is 'newest'; expected latest, all, or the number"),
        ({"version_policy": "0"}, "version_policy is '0'"),
        ({"sizes": ("1080x1920",)}, "expected multiples of 32, such as 1088x1920"),
        ({"device": "cpu", "accelerator": "cuda"}, "accelerator is cuda, and device cpu"),
        ({"io": "int8"}, "io is 'int8'; expected fp32, fp16"),
    ],
)
def test_options_that_are_none(options, words):
    with pytest.raises(RequestError, match=words):
        TritonOptions(**options)


def test_files_that_do_not_go_together(tmp_path):
    dynamic, static = write_average(tmp_path / "d.onnx"), write_average(tmp_path / "s.onnx", size=(64, 96), batch=1)
    half = write_average(tmp_path / "h.onnx", dtype="float16")
    plan, old_gpu = (write_plan(tmp_path / f"{k}.plan", dynamic, PROFILE) for k in "mg")
    old = write_plan(
        tmp_path / "o.plan", write_average(tmp_path / "i.onnx", "interpolator"), PROFILE, tensorrt="10.9.0.34"
    )
    hopper, ada = (write_plan(tmp_path / f"{k}.plan", dynamic, PROFILE, capability=k) for k in ((9, 1), (8, 9)))
    far = write_plan(tmp_path / "f.plan", dynamic, ((1, 2176, 3840),) * 2 + ((2, 2176, 3840),))
    for paths, options, words in (
        ((dynamic, static), {}, "both interpolator_m, of different sizes"),
        ((dynamic, half), {}, "both interpolator_m, of different types"),
        ((dynamic, plan), {}, "one an engine and one ONNX"),
        ((plan, far), {}, "of different sizes|no size in common"),
        ((dynamic, dynamic), {}, "is the same file as"),
        ((plan, old), {}, "built for several TensorRT versions"),
        (
            (plan, ada, hopper, old_gpu),
            {},
            "4 engines are given, for the GPUs 9.0, 8.9, 9.1, 9.0; expected one for each",
        ),
        ((dynamic,), {"version_policy": "2"}, "version_policy is 2, and interpolator_m has 1 versions"),
        ((static,), {"max_batch": 4}, "max_batch is 4, and interpolator_m takes batches of 1"),
        ((static,), {"sizes": ("96x96",)}, "size 96x96; interpolator_m takes 64x96"),
    ):
        with pytest.raises(RequestError, match=words):
            networks_from_sources([read_source(path, None) for path in paths], TritonOptions(**options))


def test_bf16_is_no_file_for_onnxruntime(tmp_path):
    path = write_average(tmp_path / "m.onnx")
    content = path.read_bytes()
    model = onnx.load_from_string(content)
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    cast.attribute[0].i = onnx.TensorProto.BFLOAT16
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="holds BF16"):
        read_source(path, None)


def test_releases_that_have_a_tensorrt():
    assert [release.name for release in releases_with("11.0.0.114")] == ["26.06"]
    assert releases_with("11.0.0.115") == []
    assert releases_with("10.8.0.43") == []
    assert RELEASES["25.01"].runs("10.8.0.43") is None
    assert RELEASES["25.01"].runs("10.9.0.34") is False
    assert RELEASES["26.08"].runs("11.2.0.1") is None
    assert RELEASES["26.06"].image == "nvcr.io/nvidia/tritonserver:26.06-py3"
    assert max(RELEASES) == NEWEST
    assert list(RELEASES) == sorted(RELEASES)

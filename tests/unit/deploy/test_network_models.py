"""Artifacts that can be served together, with which options, and those that are refused."""

import dataclasses

import onnx
import pytest

from refine_export.deploy.kserve_options import KServeOptions
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.network_models import network_models, read_model_source
from refine_export.deploy.triton.releases import NEWEST, RELEASES, releases_with
from refine_export.errors import GraphError, RecipeError, RequestError
from refine_export.jobs.job_options import options_from_keywords
from refine_export.support.manifest import manifest_path, read_manifest, write_with_manifest
from tests.support.deploy_files import write_average, write_plan
from tests.support.engine_models import saved
from tests.support.refusals import refused
from tests.support.stacks import stacked_file


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "onnx"},
        {"instances": 0},
        {"instances": "2"},
        {"max_batch": 129},
        {"delay_us": -1},
        {"version_policy": "0"},
        {"sizes": ("1080",)},
        {"accelerator": "cuda", "device": "cpu"},
    ],
)
def test_wrong_options_of_triton(options):
    with refused("wrong-option", RecipeError):
        options_from_keywords(TritonOptions, options)


@pytest.mark.parametrize(
    "options",
    [
        {"storage_uri": "models"},
        {"storage_uri": 's3://b"\n# x'},
        {"name": "Models_1"},
        {"name": "a" * 51},
        {"release": "26.13"},
        {"min_replicas": 5},
        {"max_replicas": 0},
        {"concurrency": 0},
        {"gpus": -1},
        {"protocol": "rest"},
    ],
)
def test_wrong_options_of_kserve(options):
    with refused("wrong-option", RecipeError):
        options_from_keywords(KServeOptions, {"storage_uri": "s3://bucket/models"} | options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    made = {
        "dynamic": write_average(folder / "d.onnx"),
        "static": write_average(folder / "s.onnx", size=(64, 96), batch=1),
        "half": write_average(folder / "h.onnx", dtype="float16"),
    }
    dynamic = made["dynamic"]
    plans = {
        "plan": {},
        "plan 2": {},
        "plan 9.1": {"capability": (9, 1)},
        "plan 8.9": {"capability": (8, 9)},
        "plan 10.9": {"tensorrt": "10.9.0.34"},
        "plan 4K": {"profile": ((1, 2176, 3840), (1, 2176, 3840), (2, 2208, 3872))},
    }
    return made | {name: write_plan(folder / f"{name}.plan", dynamic, **options) for name, options in plans.items()}


@pytest.mark.parametrize(
    ("names", "options", "code"),
    [
        (("dynamic", "static"), {}, "versions-differ"),
        (("dynamic", "half"), {}, "versions-differ"),
        (("dynamic", "plan"), {}, "versions-differ"),
        (("dynamic", "dynamic"), {}, "duplicate-artifact"),
        (("plan", "plan 4K"), {}, "no-common-profile"),
        (("plan", "plan 10.9"), {}, "tensorrt-versions-differ"),
        (("plan", "plan 8.9", "plan 9.1", "plan 2"), {}, "gpus-ambiguous"),
        (("dynamic",), {"version_policy": "2"}, "no-such-version"),
        (("static",), {"max_batch": 4}, "batch-not-supported"),
        (("plan",), {"max_batch": 9}, "batch-not-supported"),
        (("static",), {"sizes": ("96x96",)}, "size-not-supported"),
        (("plan",), {"sizes": ("2176x3840",)}, "size-not-supported"),
        (("plan",), {"device": "cpu"}, "engine-needs-gpu"),
        (("plan",), {"backend": "python"}, "engine-needs-tensorrt-backend"),
    ],
)
def test_artifacts_and_options_that_do_not_go_together(files, names, options, code):
    with refused(code, RequestError):
        network_models([read_model_source(files[name]) for name in names], TritonOptions(**options))


def test_gpus_with_a_plan_each_are_one_version(files, tmp_path):
    small = ((1, 128, 128), (2, 128, 128), (2, 512, 512))
    plans = [files["plan"], write_plan(tmp_path / "b.plan", files["dynamic"], small, capability=(8, 9))]
    [model] = network_models([read_model_source(path) for path in plans], TritonOptions())
    assert model.engine_by_capability == {"8.9": "model.sm89.plan", "9.0": "model.sm90.plan"}
    [version] = model.versions
    assert set(version) == set(model.engine_by_capability.values())
    assert version["model.sm89.plan"].path == plans[1]
    assert (model.max_batch_size, model.sizes) == (2, ((256, 448),))
    [model] = network_models([read_model_source(files[name]) for name in ("plan", "plan 2")], TritonOptions())
    assert [list(version) for version in model.versions] == [["model.plan"], ["model.plan"]]


def test_a_stack_is_not_deployed(tmp_path):
    with refused("not-deployable"):
        read_model_source(stacked_file(tmp_path / "net.onnx", 7))


def test_engines_for_rtx_are_not_deployed(tmp_path):
    """Triton has no backend for them, with their manifest or without; that names the file to deploy."""
    plan = saved(tmp_path / "m.rtx", b"vtrt" + bytes(24) + b"engine", "1.7.1.116")
    manifest = dataclasses.replace(read_manifest(plan), inputs={"source": "refine.onnx"})
    write_with_manifest(plan, plan.read_bytes(), manifest)
    with refused("not-deployable", source="refine.onnx"):
        read_model_source(plan)
    manifest_path(plan).unlink()
    with refused("not-deployable", source=None):
        read_model_source(plan)


def test_bf16_is_not_for_onnxruntime(tmp_path):
    model = onnx.load(write_average(tmp_path / "m.onnx"))
    next(node for node in model.graph.node if node.op_type == "Cast").attribute[0].i = onnx.TensorProto.BFLOAT16
    onnx.save(model, tmp_path / "m.onnx")
    with refused("bf16-not-supported", GraphError):
        read_model_source(tmp_path / "m.onnx")


def test_releases_that_have_a_tensorrt():
    assert [release.name for release in releases_with("11.0.0.114")] == ["26.06"]
    assert releases_with("11.0.0.115") == releases_with("10.8.0.43") == releases_with("unknown") == []
    assert RELEASES["25.01"].runs("10.8.0.43") is None
    assert RELEASES["25.01"].runs("10.9.0.34") is False
    assert RELEASES["26.08"].runs("11.2.0.1") is None
    assert RELEASES["26.06"].runs("10.9.0.34", version_compatible=True) is True
    assert RELEASES["26.06"].runs("11.1.0.0", version_compatible=True) is False
    assert list(RELEASES) == sorted(RELEASES)
    assert max(RELEASES) == NEWEST

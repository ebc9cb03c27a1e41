"""A config says what the artifact takes: read back by Triton's own schema, and compared field by field."""

from __future__ import annotations

import dataclasses

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from refine_export.deploy.triton.config_text import ModelConfig, Tensor
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.model_config import ensemble_config, frame_configs, network_config
from refine_export.deploy.triton.served_artifacts import read_source
from refine_export.deploy.triton.served_models import networks_from_sources
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES
from tests.support.deploy_files import CHECKPOINT, write_average, write_declared, write_plan

PB = model_config_pb2
PROFILE = ((1, 64, 96), (4, 256, 448), (8, 1088, 1920))


def parsed(config):
    """As the server reads it; raises for a field or a value that its schema has not."""
    return text_format.Parse(config.text(), PB.ModelConfig())


def networks(*paths, **options):
    chosen = TritonOptions(**options)
    return networks_from_sources([read_source(path, chosen.io) for path in paths], chosen), chosen


def config_of(*paths, **options):
    made, chosen = networks(*paths, **options)
    return parsed(network_config(made[0], chosen))


def tensors(values):
    return {value.name: (PB.DataType.Name(value.data_type), list(value.dims)) for value in values}


@pytest.mark.parametrize("graph", SIGNATURES)
@pytest.mark.parametrize("dtype", ["float", "float16"])
@pytest.mark.parametrize(
    ("size", "batch"), [(None, None), ((96, 160), 1), ((96, 160), None), (None, 1), ((96, 160), 2)]
)
def test_tensors_are_those_of_the_signature(tmp_path, graph, dtype, size, batch):
    config = config_of(write_declared(tmp_path / "m.onnx", graph, size=size, batch=batch, dtype=dtype))
    assert (config.name, config.platform, config.backend) == (graph, "onnxruntime_onnx", "")
    assert config.max_batch_size == (8 if batch is None else 0)
    signature = SIGNATURES[graph]
    for specs, found in ((signature.inputs, config.input), (signature.outputs, config.output)):
        expected = {}
        for spec in specs:
            numbers = spec.shape_at(batch or 1, *(size or (96, 160)))
            shape = [
                number if isinstance(dim, int) or (size and dim != "N") or (batch and dim == "N") else -1
                for dim, number in zip(spec.shape, numbers, strict=True)
            ]
            kind = "TYPE_FP32" if dtype == "float" or spec.quantity in ("flow", "timestep") else "TYPE_FP16"
            expected[spec.name] = (kind, shape[1:] if batch is None else shape)
        assert tensors(found) == expected
        assert [value.name for value in found] == [spec.name for spec in specs]


def test_what_a_dynamic_file_gets(tmp_path):
    config = config_of(write_average(tmp_path / "m.onnx"))
    assert config.version_policy.latest.num_versions == 1
    assert [(group.count, group.kind, list(group.profile)) for group in config.instance_group] == [
        (1, PB.ModelInstanceGroup.KIND_AUTO, [])
    ]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert list(config.dynamic_batching.preferred_batch_size) == []
    assert config.response_cache.enable is False
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
    assert not config.optimization.HasField("graph")
    assert {name: value.string_value for name, value in config.parameters.items()} == {
        "refine_export.graph": "interpolator_m",
        "refine_export.precision": "fp32",
        "refine_export.checkpoint_sha256": CHECKPOINT,
        "refine_export.artifact_sha256": read_source(tmp_path / "m.onnx", None).artifact.sha256,
    }


def test_warm_up_at_the_sizes_that_ship(tmp_path):
    """batch_size is 1: samples of 0, the default, are skipped silently."""
    config = config_of(write_average(tmp_path / "m.onnx"))
    assert [(sample.name, sample.batch_size) for sample in config.model_warmup] == [("256x448", 1), ("1088x1920", 1)]
    for sample, size in zip(config.model_warmup, ([256, 448], [1088, 1920]), strict=True):
        assert {name: list(value.dims) for name, value in sample.inputs.items()} == {
            "img0": [3, *size],
            "img1": [3, *size],
            "timestep": [1, 1, 1],
        }
        assert all(value.zero_data and value.data_type == PB.TYPE_FP32 for value in sample.inputs.values())
    static = config_of(write_average(tmp_path / "s.onnx", size=(96, 160), batch=2))
    [sample] = static.model_warmup
    assert (sample.name, sample.batch_size, list(sample.inputs["img0"].dims)) == ("96x160", 1, [2, 3, 96, 160])
    assert [one.name for one in config_of(tmp_path / "m.onnx", sizes=("64x64",)).model_warmup] == ["64x64"]


def test_the_options_are_in_it(tmp_path):
    config = config_of(
        write_average(tmp_path / "m.onnx"),
        accelerator="tensorrt",
        device="gpu",
        instances=3,
        max_batch=6,
        preferred=(2, 4),
        delay_us=77,
        graph_level=-1,
        threads=5,
        version_policy="all",
    )
    [group] = config.instance_group
    assert (group.count, group.kind) == (3, PB.ModelInstanceGroup.KIND_GPU)
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (6, 77)
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 4]
    assert config.optimization.graph.level == -1
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("tensorrt", {"precision_mode": "FP32"})
    assert config.parameters["intra_op_thread_count"].string_value == "5"
    assert config.version_policy.HasField("all")
    cpu = config_of(tmp_path / "m.onnx", device="cpu", version_policy="1")
    assert cpu.instance_group[0].kind == PB.ModelInstanceGroup.KIND_CPU
    assert not cpu.HasField("optimization")
    assert list(cpu.version_policy.specific.versions) == [1]


def test_one_pair_at_a_time_is_not_queued_for_others(tmp_path):
    assert not config_of(write_average(tmp_path / "m.onnx"), max_batch=1).HasField("dynamic_batching")
    assert not config_of(write_average(tmp_path / "s.onnx", batch=1)).HasField("dynamic_batching")


def test_a_plan_keeps_to_its_profile(tmp_path):
    plan = write_plan(tmp_path / "m.plan", write_average(tmp_path / "m.onnx", dtype="float16"), PROFILE)
    config = config_of(plan)
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 8)
    assert tensors(config.input) == {
        "img0": ("TYPE_FP16", [3, -1, -1]),
        "img1": ("TYPE_FP16", [3, -1, -1]),
        "timestep": ("TYPE_FP32", [1, 1, 1]),
    }
    [group] = config.instance_group
    assert (group.kind, list(group.profile)) == (PB.ModelInstanceGroup.KIND_GPU, ["0"])
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert not config.HasField("optimization")
    assert config_of(plan, max_batch=3).max_batch_size == 3
    assert list(config_of(plan, max_batch=3).dynamic_batching.preferred_batch_size) == []
    for options, words in (
        ({"max_batch": 9}, "max_batch is 9, and the engine of interpolator_m takes at most 8"),
        ({"sizes": ("2176x3840",)}, "size 2176x3840; interpolator_m takes 64x96 to 1088x1920"),
        ({"preferred": (9,)}, "preferred batch 9; expected 1 to 8"),
        ({"device": "cpu"}, "is an engine, and device is cpu"),
        ({"backend": "python"}, "is an engine, which the python backend can't serve"),
    ):
        with pytest.raises(RequestError, match=words):
            config_of(plan, **options)


@pytest.mark.parametrize(
    ("profile", "largest", "dims", "warm"),
    [
        (None, 0, [1, 3, 256, 448], "256x448"),
        (((1, 256, 448), (1, 256, 448), (4, 256, 448)), 4, [3, 256, 448], "256x448"),
        (((1, 512, 512), (1, 768, 768), (1, 1024, 1024)), 0, [1, 3, -1, -1], "768x768"),
        (((2, 256, 448), (2, 256, 448), (4, 256, 448)), 0, [-1, 3, 256, 448], "256x448"),
    ],
)
def test_plans_of_other_profiles(tmp_path, profile, largest, dims, warm):
    fixed = {"size": (256, 448), "batch": 1} if profile is None else {}
    config = config_of(write_plan(tmp_path / "m.plan", write_average(tmp_path / "m.onnx", **fixed), profile))
    assert (config.max_batch_size, list(config.input[0].dims)) == (largest, dims)
    assert list(config.instance_group[0].profile) == ([] if profile is None else ["0"])
    [sample] = config.model_warmup
    assert sample.name == warm
    smallest = profile[0][0] if profile else 1
    expected = [3, *map(int, warm.split("x"))]
    assert list(sample.inputs["img0"].dims) == (expected if largest else [smallest, *expected])


def test_gpus_with_a_plan_each_are_one_version(tmp_path):
    source = write_average(tmp_path / "m.onnx")
    plans = [
        write_plan(tmp_path / "a.plan", source, PROFILE),
        write_plan(tmp_path / "b.plan", source, ((1, 128, 128), (2, 128, 128), (2, 512, 512)), capability=(8, 9)),
    ]
    made, chosen = networks(*plans)
    assert len(made[0].versions) == 1
    config = parsed(network_config(made[0], chosen))
    assert dict(config.cc_model_filenames) == {"8.9": "model.sm89.plan", "9.0": "model.sm90.plan"}
    assert set(made[0].versions[0]) == set(config.cc_model_filenames.values())
    assert made[0].versions[0]["model.sm89.plan"].path == plans[1]
    assert config.max_batch_size == 2
    assert [sample.name for sample in config.model_warmup] == ["256x448"]
    same = write_plan(tmp_path / "c.plan", source, PROFILE)
    made, _ = networks(plans[0], same)
    assert [list(version) for version in made[0].versions] == [["model.plan"], ["model.plan"]]


@pytest.mark.parametrize("graph", ["interpolator", "interpolator_m"])
@pytest.mark.parametrize("backend", ["auto", "python"])
def test_the_ensemble_fits_together(tmp_path, graph, backend):
    """Each tensor of the ensemble is written once, and read with the type and dims that it has."""
    [network], chosen = networks(write_average(tmp_path / "m.onnx", graph, dtype="float16"), backend=backend)
    models = {
        config.name: parsed(config) for config in (network_config(network, chosen), *frame_configs(network, chosen))
    }
    ensemble = parsed(ensemble_config(network))
    assert (ensemble.platform, ensemble.max_batch_size) == ("ensemble", 0)
    timed = {"timestep": ("TYPE_FP32", [1])} if graph == "interpolator_m" else {}
    frame = ("TYPE_UINT8", [-1, -1, 3])
    assert tensors(ensemble.input) == {"frame0": frame, "frame1": frame} | timed
    assert tensors(ensemble.output) == {"frame": frame}
    known = tensors(ensemble.input)
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == [
        "interpolate_pre",
        graph,
        "interpolate_post",
    ]
    for step in ensemble.ensemble_scheduling.step:
        model = models[step.model_name]
        batch = [1] if model.max_batch_size else []
        taken, given = tensors(model.input), tensors(model.output)
        assert set(step.input_map) == set(taken)
        assert set(step.output_map) == set(given)
        for name, outer in step.input_map.items():
            kind, dims = taken[name]
            assert known[outer] == (kind, batch + dims)
        for name, outer in step.output_map.items():
            assert outer not in known
            known[outer] = (given[name][0], batch + given[name][1])
        assert step.model_version == -1
    assert known["frame"] == frame
    for name in ("interpolate_pre", "interpolate_post"):
        assert models[name].instance_group[0].kind == PB.ModelInstanceGroup.KIND_CPU
        assert (models[name].backend, models[name].platform) == (
            ("python", "") if backend == "python" else ("", "onnxruntime_onnx")
        )


def test_the_text_is_the_same_each_time_and_quotes_what_it_must(tmp_path):
    [network], chosen = networks(write_average(tmp_path / "m.onnx"))
    assert network_config(network, chosen).text() == network_config(network, chosen).text()
    base = ModelConfig(
        name="m",
        backend="python",
        max_batch_size=0,
        why_batch="",
        inputs=(Tensor(name="x", data_type="TYPE_FP32", dims=(1,)),),
        outputs=(),
    )
    odd = 'a "quoted" \\ # word'
    assert parsed(dataclasses.replace(base, parameters={odd: odd})).parameters[odd].string_value == odd
    with pytest.raises(ValueError, match="no printable ASCII"):
        dataclasses.replace(base, parameters={"a": "line\nbreak"}).text()

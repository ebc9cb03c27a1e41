"""A config matches what the artifact takes: parsed with Triton's own schema, and compared field by field."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as schema

from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.model_config import (
    ensemble_config,
    network_config,
    post_config,
    pre_config,
    text_from_config,
)
from refine_export.deploy.triton.network_models import network_models, read_model_source
from refine_export.signature import SIGNATURES
from tests.support.deploy_files import CHECKPOINT, write_average, write_declared, write_plan


def parsed(config):
    return text_format.Parse(text_from_config(config), schema.ModelConfig())


def network_of(path, options):
    [network] = network_models([read_model_source(path)], options)
    return network


def config_of(path, **options):
    chosen = TritonOptions(**options)
    return parsed(network_config(network_of(path, chosen), chosen))


def tensors(values):
    return {value.name: (schema.DataType.Name(value.data_type), list(value.dims)) for value in values}


@pytest.mark.parametrize("graph", SIGNATURES)
@pytest.mark.parametrize(("size", "batch", "dtype"), [(None, None, "float"), ((96, 160), 1, "float16")])
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


def test_defaults_of_a_dynamic_file(tmp_path):
    config = config_of(write_average(tmp_path / "m.onnx"))
    assert config.version_policy.latest.num_versions == 1
    [group] = config.instance_group
    assert (group.count, group.kind, list(group.profile)) == (1, schema.ModelInstanceGroup.KIND_AUTO, [])
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert list(config.dynamic_batching.preferred_batch_size) == []
    assert config.response_cache.enable is False
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
    assert not config.optimization.HasField("graph")
    assert {name: value.string_value for name, value in config.parameters.items()} == {
        "refine_export.graph": "interpolator",
        "refine_export.precision": "fp32",
        "refine_export.checkpoint_sha256": CHECKPOINT,
        "refine_export.artifact_sha256": read_model_source(tmp_path / "m.onnx").artifact.sha256,
        "refine_export.multiple_of": "32",
        "refine_export.scale": "1",
    }


def test_warm_up_sizes(tmp_path):
    """batch_size is 1: samples of 0, the default, are skipped silently."""
    config = config_of(write_average(tmp_path / "m.onnx"))
    assert [(sample.name, sample.batch_size) for sample in config.model_warmup] == [("256x448", 1), ("1088x1920", 1)]
    for sample, size in zip(config.model_warmup, ([256, 448], [1088, 1920]), strict=True):
        assert {name: list(value.dims) for name, value in sample.inputs.items()} == {
            "img0": [3, *size],
            "img1": [3, *size],
            "timestep": [1, 1, 1],
        }
        assert all(value.zero_data and value.data_type == schema.TYPE_FP32 for value in sample.inputs.values())
    [sample] = config_of(write_average(tmp_path / "s.onnx", size=(96, 160), batch=2)).model_warmup
    assert (sample.name, sample.batch_size, list(sample.inputs["img0"].dims)) == ("96x160", 1, [2, 3, 96, 160])
    assert [one.name for one in config_of(tmp_path / "m.onnx", sizes=("64x64",)).model_warmup] == ["64x64"]


def test_the_options_are_in_it(tmp_path):
    config = config_of(
        write_average(tmp_path / "m.onnx"),
        accelerator="tensorrt",
        device="gpu",
        instances=3,
        max_batch=6,
        delay_us=77,
        threads=5,
        version_policy="all",
    )
    [group] = config.instance_group
    assert (group.count, group.kind) == (3, schema.ModelInstanceGroup.KIND_GPU)
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (6, 77)
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("tensorrt", {"precision_mode": "FP32"})
    assert config.parameters["intra_op_thread_count"].string_value == "5"
    assert config.version_policy.HasField("all")
    cpu = config_of(tmp_path / "m.onnx", device="cpu", version_policy="1")
    assert cpu.instance_group[0].kind == schema.ModelInstanceGroup.KIND_CPU
    assert not cpu.HasField("optimization")
    assert list(cpu.version_policy.specific.versions) == [1]


def test_one_pair_at_a_time_does_not_wait_for_others(tmp_path):
    assert not config_of(write_average(tmp_path / "m.onnx"), max_batch=1).HasField("dynamic_batching")
    assert not config_of(write_average(tmp_path / "s.onnx", batch=1)).HasField("dynamic_batching")


def test_a_plan_keeps_to_its_profile(tmp_path):
    plan = write_plan(tmp_path / "m.plan", write_average(tmp_path / "m.onnx", dtype="float16"))
    config = config_of(plan)
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 8)
    assert tensors(config.input) == {
        "img0": ("TYPE_FP16", [3, -1, -1]),
        "img1": ("TYPE_FP16", [3, -1, -1]),
        "timestep": ("TYPE_FP32", [1, 1, 1]),
    }
    [group] = config.instance_group
    assert (group.kind, list(group.profile)) == (schema.ModelInstanceGroup.KIND_GPU, ["0"])
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert not config.HasField("optimization")
    smaller = config_of(plan, max_batch=3)
    assert (smaller.max_batch_size, list(smaller.dynamic_batching.preferred_batch_size)) == (3, [])


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
    expected = [3, *map(int, warm.split("x"))]
    smallest = profile[0][0] if profile else 1
    assert (sample.name, list(sample.inputs["img0"].dims)) == (warm, expected if largest else [smallest, *expected])


@pytest.mark.parametrize(("timestep", "backend"), [(False, "auto"), (True, "python")])
def test_the_ensemble_fits_together(tmp_path, timestep, backend):
    """Each tensor of the ensemble is written once, and read with the type and dims that it has."""
    options = TritonOptions(backend=backend)
    network = network_of(write_average(tmp_path / "m.onnx", timestep=timestep, dtype="float16"), options)
    configs = network_config(network, options), pre_config(network, options), post_config(network, options)
    models = {config["name"]: parsed(config) for config in configs}
    ensemble = parsed(ensemble_config(network))
    assert (ensemble.platform, ensemble.max_batch_size) == ("ensemble", 0)
    frame = ("TYPE_UINT8", [-1, -1, 3])
    known = tensors(ensemble.input)
    assert known == {"frame0": frame, "frame1": frame} | (
        {"timestep": ("TYPE_FP32", [1])} if network.takes_timestep else {}
    )
    assert tensors(ensemble.output) == {"frame": frame}
    steps = ensemble.ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["interpolate_pre", "interpolator", "interpolate_post"]
    for step in steps:
        model = models[step.model_name]
        batch = [1] if model.max_batch_size else []
        inputs, outputs = tensors(model.input), tensors(model.output)
        assert (set(step.input_map), set(step.output_map)) == (set(inputs), set(outputs))
        for name, outer in step.input_map.items():
            assert known[outer] == (inputs[name][0], batch + inputs[name][1])
        for name, outer in step.output_map.items():
            assert outer not in known
            known[outer] = (outputs[name][0], batch + outputs[name][1])
        assert step.model_version == -1
    assert known["frame"] == frame
    for name in ("interpolate_pre", "interpolate_post"):
        assert models[name].instance_group[0].kind == schema.ModelInstanceGroup.KIND_CPU
        assert (models[name].backend or models[name].platform) == (
            "python" if backend == "python" else "onnxruntime_onnx"
        )

"""Configs of the models: names and dims from the `Signature`, types and sizes from the artifact.

    text = text_from_config(network_config(network, options))

A config is the JSON form of `ModelConfig` in model_config.proto of triton-inference-server/common: fields by their
names there, enums as their names. What is written for a GPU follows README.md of onnxruntime_backend (accelerators)
and the user guide of server (batching, instance groups, warm-up, ensembles).
"""

from __future__ import annotations

from typing import Any

from refine_export import __version__
from refine_export.deploy.triton import names
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.network_models import NetworkModel
from refine_export.signature import TensorSpec
from refine_export.support.imports import require
from refine_export.support.text import size_text

Config = dict[str, Any]

_RUNS_BY = {
    "tensorrt": {"platform": "tensorrt_plan"},
    "onnxruntime": {"platform": "onnxruntime_onnx"},
    "python": {"backend": "python"},
}
_KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
_ACCELERATORS = {
    "cuda": {"use_tf32": "0"},  # TF32 is on by default, and then FP32 is not what was compared
    "tensorrt": {"precision_mode": "FP32"},  # the types are the file's own; without any parameter all run on GPU 0
}


def text_from_config(config: Config) -> str:
    """Return the text of config.pbtxt, checked against Triton's schema.

    Raises:
        UnavailableError: `missing-package`; tritonclient, which has the schema.
    """
    schema = require("tritonclient.grpc.model_config_pb2", extra="triton")
    json_format = require("google.protobuf.json_format", extra="triton")
    text_format = require("google.protobuf.text_format", extra="triton")
    message = json_format.ParseDict(config, schema.ModelConfig())
    text = text_format.MessageToString(message, use_short_repeated_primitives=True)
    return f"# Written by refine-export {__version__}: change it with refine-export deploy triton.\n{text}"


def network_config(network: NetworkModel, options: TritonOptions) -> Config:
    """Return the config of a network's model."""
    signature = network.signature
    config: Config = {
        "name": network.graph,
        **_RUNS_BY[network.backend],
        "max_batch_size": network.max_batch_size,
        "input": [_tensor(network, spec) for spec in signature.inputs],
        "output": [_tensor(network, spec) for spec in signature.outputs],
        "version_policy": _version_policy(options.version_policy),
        "instance_group": [{"count": options.instances, "kind": _KINDS[options.device]}],
        # Frames hardly ever repeat: a cache would cost a hash of each.
        "response_cache": {"enable": False},
        "model_warmup": [_warm_up(network, size) for size in network.sizes],
        "parameters": _parameters(network, options),
    }
    if network.max_batch_size > 1:
        best = network.profile[1][0]
        config["dynamic_batching"] = {
            "preferred_batch_size": [best] if 1 < best <= network.max_batch_size else [],
            "max_queue_delay_microseconds": options.delay_us,
        }
    if network.backend == "tensorrt":
        profiles = min(target.profiles for target in network.engine_targets)
        config["instance_group"][0] |= {"kind": "KIND_GPU", "profile": [str(number) for number in range(profiles)]}
        config["cc_model_filenames"] = dict(network.engine_by_capability)
    elif optimization := _optimization(network, options):
        config["optimization"] = optimization
    return config


def pre_config(network: NetworkModel, options: TritonOptions) -> Config:
    """Return the config of `interpolate_pre`, which runs on the CPU before the ensemble's network."""
    outputs = [_of_type(name, network.types[name], 1, 3, -1, -1) for name in (names.IMG0, names.IMG1)]
    if network.takes_timestep:
        outputs.append(_of_type(names.TIME, network.types[names.TIMESTEP], 1, 1, 1, 1))
    return _frame_config(names.PRE, options, _ensemble_inputs(network), outputs)


def post_config(network: NetworkModel, options: TritonOptions) -> Config:
    """Return the config of `interpolate_post`, which runs on the CPU after the ensemble's network."""
    frame = _of_type(names.FRAME, network.types[names.FRAME], 1, 3, -1, -1)
    return _frame_config(names.POST, options, [frame, _picture(names.FRAME0)], [_picture(names.PICTURE)])


def ensemble_config(network: NetworkModel) -> Config:
    """Return the config of `interpolate`: pictures of any size, as far as the network takes them."""
    pictures, images = (
        {names.FRAME0: names.FRAME0, names.FRAME1: names.FRAME1},
        {names.IMG0: names.IMG0, names.IMG1: names.IMG1},
    )
    timestep = {names.TIMESTEP: names.TIMESTEP} if network.takes_timestep else {}
    steps = [
        (names.PRE, pictures | timestep, images | ({names.TIME: names.TIME} if network.takes_timestep else {})),
        (
            network.graph,
            images | ({names.TIMESTEP: names.TIME} if network.takes_timestep else {}),
            {names.FRAME: "network_frame"},
        ),
        (names.POST, {names.FRAME: "network_frame", names.FRAME0: names.FRAME0}, {names.PICTURE: names.FRAME}),
    ]
    return {
        "name": names.ENSEMBLE,
        "platform": "ensemble",
        "max_batch_size": 0,  # requests are batched in the network, where they are of one size
        "input": _ensemble_inputs(network),
        "output": [_picture(names.FRAME)],
        "version_policy": _version_policy("latest"),
        "ensemble_scheduling": {
            "step": [
                {"model_name": model, "model_version": -1, "input_map": inputs, "output_map": outputs}
                for model, inputs, outputs in steps
            ]
        },
    }


def why_no_ensemble(network: NetworkModel) -> str | None:
    """Return what keeps a network from taking a single pair of pictures; None where nothing does."""
    if network.types[names.IMG0] != network.types[names.IMG1]:
        return f"{network.graph} takes its two frames as {network.types[names.IMG0]} and {network.types[names.IMG1]}"
    batch = network.smallest_batch
    return None if batch == 1 else f"{network.graph} takes batches of {batch}, the ensemble has one pair"


def _frame_config(name: str, options: TritonOptions, inputs: list[Config], outputs: list[Config]) -> Config:
    return {
        "name": name,
        **_RUNS_BY["python" if options.backend == "python" else "onnxruntime"],
        "max_batch_size": 0,  # one pair of pictures at a time: those of different requests differ in size
        "input": inputs,
        "output": outputs,
        "version_policy": _version_policy("latest"),
        "instance_group": [{"count": options.instances, "kind": "KIND_CPU"}],
        "response_cache": {"enable": False},
    }


def _of_type(name: str, data_type: str, *dims: int) -> Config:
    return {"name": name, "data_type": data_type, "dims": list(dims)}


def _picture(name: str) -> Config:
    return _of_type(name, "TYPE_UINT8", -1, -1, 3)


def _ensemble_inputs(network: NetworkModel) -> list[Config]:
    timestep = [_of_type(names.TIMESTEP, "TYPE_FP32", 1)] if network.takes_timestep else []
    return [_picture(names.FRAME0), _picture(names.FRAME1), *timestep]


def _tensor(network: NetworkModel, spec: TensorSpec) -> Config:
    # Free sizes are 0 in the arithmetic of `shape_at` (H/2 is 0 too), and -1 in a config.
    dims = _dims(network, spec, *(size or 0 for size in network.fixed))
    return _of_type(spec.name, network.types[spec.name], *(dim or -1 for dim in dims))


def _dims(network: NetworkModel, spec: TensorSpec, batch: int, height: int, width: int) -> tuple[int, ...]:
    """Return dims as a config has them: without the batch where requests are batched."""
    return spec.shape_at(batch, height, width)[1 if network.max_batch_size else 0 :]


def _version_policy(versions: str) -> Config:
    if versions == "latest":
        return {"latest": {"num_versions": 1}}
    return {"all": {}} if versions == "all" else {"specific": {"versions": [int(versions)]}}


def _warm_up(network: NetworkModel, size: tuple[int, int]) -> Config:
    """Return a request of zeros that the server computes before the model counts as loaded."""
    inputs = {
        spec.name: {
            "data_type": network.types[spec.name],
            "dims": list(_dims(network, spec, network.smallest_batch, *size)),
            "zero_data": True,
        }
        for spec in network.signature.inputs
    }
    # Triton's default for batch_size is 0, and it skips such a sample silently.
    return {"name": size_text(size), "batch_size": 1, "inputs": inputs}


def _optimization(network: NetworkModel, options: TritonOptions) -> Config:
    name = options.accelerator or ("none" if options.device == "cpu" else "cuda")
    if network.backend != "onnxruntime" or name == "none":
        return {}
    accelerator = {"name": name, "parameters": _ACCELERATORS[name]}
    return {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}


def _parameters(network: NetworkModel, options: TritonOptions) -> Config:
    threads = str(options.threads) if options.threads and network.backend != "tensorrt" else None
    values = names.parameters_of(network.newest.artifact) | {names.THREADS_PARAMETER: threads}
    return {name: {"string_value": value} for name, value in values.items() if value}

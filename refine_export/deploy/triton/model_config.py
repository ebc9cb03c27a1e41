"""Networks to configs: names and dims from the `Signature`, types and sizes from the artifact.

    text = network_config(network, options).text()

What is written for a GPU follows README.md of triton-inference-server/onnxruntime_backend (accelerators, graph level)
and the user guide of triton-inference-server/server (batching, instance groups, warm-up, ensembles).
"""

from __future__ import annotations

from collections.abc import Mapping

from refine_export.deploy.triton.config_text import Batching, Instances, ModelConfig, Step, Tensor, WarmUp
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.names import (
    ARTIFACT_PARAMETER,
    CHECKPOINT_PARAMETER,
    ENSEMBLE,
    FRAME,
    FRAME0,
    FRAME1,
    GRAPH_PARAMETER,
    IMG0,
    IMG1,
    PICTURE,
    POST,
    PRE,
    PRECISION_PARAMETER,
    THREADS_PARAMETER,
    TIME,
    TIMESTEP,
)
from refine_export.deploy.triton.served_models import Network
from refine_export.signature import SIGNATURES, TensorSpec
from refine_export.support.text import size_text

_PLATFORMS: Mapping[str, str] = {"tensorrt": "tensorrt_plan", "onnxruntime": "onnxruntime_onnx"}
_KINDS: Mapping[str, str] = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
_ACCELERATORS: Mapping[str, Mapping[str, str]] = {
    "cuda": {"use_tf32": "0"},  # on by default, and then FP32 is not what was compared
    "tensorrt": {"precision_mode": "FP32"},  # the types are the file's own; without any parameter all run on GPU 0
}
_ONE_REQUEST = "One request at a time, with its batch in the dims: "
_PICTURES = (FRAME0, FRAME1)


def network_config(network: Network, options: TritonOptions) -> ModelConfig:
    """The config of a network's model."""
    signature = SIGNATURES[network.graph]
    onnx = network.backend != "tensorrt"
    inputs = tuple(_tensor(network, spec) for spec in signature.inputs)
    return ModelConfig(
        name=network.graph,
        platform=_PLATFORMS.get(network.backend, ""),
        backend="" if network.backend in _PLATFORMS else network.backend,
        max_batch_size=network.largest_batch,
        why_batch=_why_batch(network),
        inputs=inputs,
        outputs=tuple(_tensor(network, spec) for spec in signature.outputs),
        versions=options.version_policy,
        instances=_instances(network, options),
        batching=_batching(network, options),
        warm_ups=tuple(_warm_up(network, size) for size in network.sizes),
        files_by_capability=network.by_capability,
        graph_level=options.graph_level if onnx and options.graph_level else None,
        accelerator=_accelerator(network, options),
        parameters=_parameters(network, options, onnx),
    )


def frame_configs(network: Network, options: TritonOptions) -> tuple[ModelConfig, ModelConfig]:
    """The configs of the models around the ensemble's network: before and behind it; both on the CPU."""
    backend = "python" if options.backend == "python" else "onnxruntime"
    timed = TIMESTEP in network.types
    time = [Tensor(name=TIME, data_type=network.types[TIMESTEP], dims=(1, 1, 1, 1))] if timed else []
    images = [Tensor(name=name, data_type=network.types[name], dims=(1, 3, -1, -1)) for name in (IMG0, IMG1)]
    frame = Tensor(name=FRAME, data_type=network.types[FRAME], dims=(1, 3, -1, -1))
    why = "One pair of pictures at a time: those of different requests differ in size."
    pre = ModelConfig(
        name=PRE,
        platform=_PLATFORMS.get(backend, ""),
        backend="" if backend in _PLATFORMS else backend,
        max_batch_size=0,
        why_batch=why,
        inputs=_ensemble_inputs(timed=timed),
        outputs=(*images, *time),
        instances=Instances(count=options.instances),
    )
    post = ModelConfig(
        name=POST,
        platform=_PLATFORMS.get(backend, ""),
        backend="" if backend in _PLATFORMS else backend,
        max_batch_size=0,
        why_batch=why,
        inputs=(frame, _picture(FRAME0)),
        outputs=(_picture(PICTURE),),
        instances=Instances(count=options.instances),
    )
    return pre, post


def ensemble_config(network: Network) -> ModelConfig:
    """The config of `interpolate`: pictures of any size, as far as the network takes them."""
    timed = TIMESTEP in network.types
    of_network = {IMG0: IMG0, IMG1: IMG1} | ({TIMESTEP: TIME} if timed else {})
    of_pre = {FRAME0: FRAME0, FRAME1: FRAME1} | ({TIMESTEP: TIMESTEP} if timed else {})
    made = {IMG0: IMG0, IMG1: IMG1} | ({TIME: TIME} if timed else {})
    return ModelConfig(
        name=ENSEMBLE,
        platform="ensemble",
        max_batch_size=0,
        why_batch=f"Requests are joined in {network.graph}, where they are of one size.",
        inputs=_ensemble_inputs(timed=timed),
        outputs=(_picture(FRAME),),
        steps=(
            Step(model=PRE, inputs=of_pre, outputs=made),
            Step(model=network.graph, inputs=of_network, outputs={FRAME: "network_frame"}),
            Step(model=POST, inputs={FRAME: "network_frame", FRAME0: FRAME0}, outputs={PICTURE: FRAME}),
        ),
    )


def why_no_ensemble(network: Network) -> str | None:
    """What keeps a network from a single pair of pictures; None where nothing does."""
    if network.types[IMG0] != network.types[IMG1]:
        return f"{network.graph} takes its two frames as {network.types[IMG0]} and {network.types[IMG1]}"
    batch = network.fixed[0] if network.profile is None else network.profile[0][0]
    return None if batch in (None, 1) else f"{network.graph} takes batches of {batch}, the ensemble has one pair"


def _picture(name: str) -> Tensor:
    return Tensor(name=name, data_type="TYPE_UINT8", dims=(-1, -1, 3))


def _ensemble_inputs(*, timed: bool) -> tuple[Tensor, ...]:
    time = [Tensor(name=TIMESTEP, data_type="TYPE_FP32", dims=(1,))] if timed else []
    return (*map(_picture, _PICTURES), *time)


def _tensor(network: Network, spec: TensorSpec) -> Tensor:
    dims = _dims(network, spec, tuple(size or 0 for size in network.fixed))
    return Tensor(name=spec.name, data_type=network.types[spec.name], dims=tuple(dim or -1 for dim in dims))


def _dims(network: Network, spec: TensorSpec, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Of a batch, height and width; without the batch where requests are joined."""
    return spec.shape_at(*sizes)[1 if network.largest_batch else 0 :]


def _why_batch(network: Network) -> str:
    if not network.largest_batch:
        batch = network.fixed[0]
        return _ONE_REQUEST + (f"the artifact takes {batch}." if batch else "the profile begins above 1.")
    if network.profile:
        return f"At most what the engine was built for: {network.profile[2][0]} pairs."
    return "The file takes any; more in one batch need more memory."


def _instances(network: Network, options: TritonOptions) -> Instances:
    if network.backend != "tensorrt":
        return Instances(count=options.instances, kind=_KINDS[options.device])
    profiles = min(plan.profiles for plan in network.plans)
    return Instances(
        count=options.instances, kind="KIND_GPU", profiles=tuple(str(number) for number in range(profiles))
    )


def _batching(network: Network, options: TritonOptions) -> Batching | None:
    if network.largest_batch < 2:
        return None
    best = network.profile[1][0] if network.profile else 1
    preferred = options.preferred or ((best,) if 1 < best <= network.largest_batch else ())
    return Batching(delay_us=options.delay_us, preferred=preferred)


def _accelerator(network: Network, options: TritonOptions) -> tuple[str, Mapping[str, str]] | None:
    name = options.accelerator or ("none" if options.device == "cpu" else "cuda")
    if network.backend != "onnxruntime" or name == "none":
        return None
    return name, _ACCELERATORS[name]


def _warm_up(network: Network, size: tuple[int, int]) -> WarmUp:
    smallest = network.profile[0][0] if network.profile else 1
    batch = network.fixed[0] or smallest
    inputs = tuple(
        Tensor(name=spec.name, data_type=network.types[spec.name], dims=_dims(network, spec, (batch, *size)))
        for spec in SIGNATURES[network.graph].inputs
    )
    return WarmUp(name=size_text(size), inputs=inputs)


def _parameters(network: Network, options: TritonOptions, onnx: bool) -> dict[str, str]:
    artifact = network.newest.artifact
    known = {
        GRAPH_PARAMETER: network.graph,
        PRECISION_PARAMETER: artifact.precision,
        CHECKPOINT_PARAMETER: artifact.checkpoint_sha256,
        ARTIFACT_PARAMETER: artifact.sha256,
        THREADS_PARAMETER: str(options.threads) if onnx and options.threads else None,
    }
    return {name: value for name, value in known.items() if value}

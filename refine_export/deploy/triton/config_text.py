"""A model's config as dataclasses, and as the text of config.pbtxt; no protobuf is needed to write it.

Fields are those of `ModelConfig` in model_config.proto of triton-inference-server/common that this package uses. The
same config gives the same text, and what has a reason has it beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from refine_export import __version__


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or an output."""

    name: str
    data_type: str
    """Such as `TYPE_FP32`."""
    dims: tuple[int, ...]
    """-1 for any size; without the batch where the model has one."""


@dataclass(frozen=True, kw_only=True)
class Instances:
    """How many copies of a model run, and where."""

    count: int = 1
    kind: str = "KIND_CPU"
    profiles: tuple[str, ...] = ()
    """Of a plan, by number."""


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests are joined."""

    delay_us: int
    preferred: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """A request of zeros that is computed before the model counts as loaded."""

    name: str
    inputs: tuple[Tensor, ...]
    """With dims in numbers."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A model in an ensemble: its tensors, and what the ensemble calls them."""

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What Triton is told of a model."""

    name: str
    platform: str = ""
    backend: str = ""
    max_batch_size: int
    why_batch: str
    """The reason for `max_batch_size`."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    versions: str = "latest"
    """latest, all, or the number of one."""
    instances: Instances | None = None
    batching: Batching | None = None
    warm_ups: tuple[WarmUp, ...] = ()
    files_by_capability: Mapping[str, str] = field(default_factory=dict)
    graph_level: int | None = None
    accelerator: tuple[str, Mapping[str, str]] | None = None
    """Of a GPU: its name and its parameters."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    def text(self) -> str:
        """config.pbtxt."""
        return "\n".join(_config(self)) + "\n"


def _config(config: ModelConfig) -> Iterator[str]:
    yield f"# Written by refine-export {__version__}: make it again with refine-export deploy triton."
    yield f"name: {_quoted(config.name)}"
    for name in ("platform", "backend"):
        if value := getattr(config, name):
            yield f"{name}: {_quoted(value)}"
    yield f"# {config.why_batch}"
    yield f"max_batch_size: {config.max_batch_size}"
    for name, tensors in (("input", config.inputs), ("output", config.outputs)):
        for tensor in tensors:
            yield from _block(name, f"name: {_quoted(tensor.name)}", *_typed(tensor))
    yield from _block("version_policy", *_policy(config.versions))
    if config.steps:
        yield from _block("ensemble_scheduling", *(line for step in config.steps for line in _step(step)))
        return
    if config.files_by_capability:
        yield "# A plan for each kind of GPU; on others the model does not load."
        for key, value in config.files_by_capability.items():
            yield from _entry("cc_model_filenames", key, value)
    if config.instances:
        yield from _block("instance_group", *_instances(config.instances))
    if config.batching:
        yield from _block("dynamic_batching", *_batching(config.batching))
    yield from _optimization(config)
    yield "# Frames hardly ever repeat: a cache would cost a hash of each."
    yield from _block("response_cache", "enable: false")
    if config.warm_ups:
        yield "# Zeros, at the sizes that ship: the first request of a new size is slow. A sample without batch_size"
        yield "# is skipped silently."
        for sample in config.warm_ups:
            yield from _block("model_warmup", *_warm_up(sample))
    for key, value in config.parameters.items():
        yield from _block("parameters", f"key: {_quoted(key)}", *_block("value", f"string_value: {_quoted(value)}"))


def _typed(tensor: Tensor) -> list[str]:
    return [f"data_type: {tensor.data_type}", f"dims: [ {', '.join(map(str, tensor.dims))} ]"]


def _policy(versions: str) -> Iterator[str]:
    if versions == "latest":
        yield from _block("latest", "num_versions: 1")
    elif versions == "all":
        yield "all { }"
    else:
        yield from _block("specific", f"versions: [ {versions} ]")


def _instances(instances: Instances) -> Iterator[str]:
    yield f"count: {instances.count}"
    yield f"kind: {instances.kind}"
    if instances.profiles:
        yield f"profile: [ {', '.join(map(_quoted, instances.profiles))} ]"


def _batching(batching: Batching) -> Iterator[str]:
    if batching.preferred:
        yield "# Sent off at once; any other batch waits for the delay."
        yield f"preferred_batch_size: [ {', '.join(map(str, batching.preferred))} ]"
    yield f"max_queue_delay_microseconds: {batching.delay_us}"


def _optimization(config: ModelConfig) -> Iterator[str]:
    lines: list[str] = []
    if config.graph_level is not None:
        lines += _block("graph", f"level: {config.graph_level}")
    if config.accelerator:
        name, parameters = config.accelerator
        entries = (line for key, value in parameters.items() for line in _entry("parameters", key, value))
        accelerator = _block("gpu_execution_accelerator", f"name: {_quoted(name)}", *entries)
        lines += _block("execution_accelerators", *accelerator)
    if lines:
        yield from _block("optimization", *lines)


def _warm_up(sample: WarmUp) -> Iterator[str]:
    yield f"name: {_quoted(sample.name)}"
    yield "batch_size: 1"
    for tensor in sample.inputs:
        value = _block("value", *_typed(tensor), "zero_data: true")
        yield from _block("inputs", f"key: {_quoted(tensor.name)}", *value)


def _step(step: Step) -> Iterator[str]:
    lines = [f"model_name: {_quoted(step.model)}", "model_version: -1"]
    for name, tensors in (("input_map", step.inputs), ("output_map", step.outputs)):
        for key, value in tensors.items():
            lines += _entry(name, key, value)
    yield from _block("step", *lines)


def _entry(name: str, key: str, value: str) -> list[str]:
    return [f"{name} {{ key: {_quoted(key)} value: {_quoted(value)} }}"]


def _block(name: str, *lines: str) -> list[str]:
    """A message: in one line where it is short and holds no comment."""
    short = f"{name} {{ {' '.join(lines)} }}"
    if len(short) <= 100 and not any(line.startswith(("#", " ")) or line.endswith("{") for line in lines):
        return [short]
    return [f"{name} {{", *(f"  {line}" for line in lines), "}"]


def _quoted(text: str) -> str:
    """A string of the text format: ASCII, with escapes that JSON has too."""
    if not text.isprintable() or not text.isascii():
        raise ValueError(f"{text!r} is no printable ASCII, which a config is written in")
    return json.dumps(text)

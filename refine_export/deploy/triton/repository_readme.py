"""The README of a model repository: which server to start, how to start it, and how to send requests."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from refine_export import __version__
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.triton.network_models import NetworkModel
from refine_export.deploy.triton.releases import FIND_OUT, NEWEST, RELEASES, SUPPORT_MATRIX, releases_with
from refine_export.signature import LARGEST_SIDE
from refine_export.support.templates import template_environment
from refine_export.support.text import size_text

UNKNOWN_IMAGE = "nvcr.io/nvidia/tritonserver:YY.MM-py3"
_DTYPES = {"TYPE_FP32": "float32", "TYPE_FP16": "float16"}


def readme_text(
    networks: Sequence[NetworkModel],
    interpolator: NetworkModel | None,
    models: Sequence[Mapping[str, Any]],
    options: TritonOptions,
    name: str,
) -> str:
    """Return the README as Markdown; `models` are the records of all models, as deployment.json has them."""
    environment = template_environment("deploy/triton", autoescape=False)
    environment.filters["content"] = _content
    image, image_reason, release = _image(networks)
    first = networks[0]
    engines = [target for network in networks for target in network.engine_targets]
    return environment.get_template("readme.md.j2").render(
        name=name,
        quoted=shlex.quote(name),
        tool=__version__,
        models=models,
        ensemble=interpolator is not None,
        takes_timestep=interpolator is not None and interpolator.takes_timestep,
        picture_sizes=_picture_sizes(interpolator) if interpolator else "",
        image=image,
        image_reason=image_reason,
        release=release,
        python=options.backend == "python",
        cpu=options.device == "cpu",
        any_device=options.device == "auto" and not engines,
        tensorrt_accelerator=options.accelerator == "tensorrt",
        version_compatible=bool(engines) and all(engine.version_compatible for engine in engines),
        example=ENSEMBLE if interpolator else first.graph,
        inputs=[
            (spec.name, spec.shape_at(first.smallest_batch, *first.sizes[0]), _DTYPES[first.types[spec.name]])
            for spec in first.signature.inputs
        ],
        output=first.signature.output_names[0],
    )


def _image(networks: Sequence[NetworkModel]) -> tuple[str, str, str | None]:
    """Return the container, the reason for it, and the release that `deploy check` is to be given."""
    engines = [target for network in networks for target in network.engine_targets]
    if not engines:
        newest = RELEASES[NEWEST]
        reason = (
            f"Every release from {next(iter(RELEASES))} on takes these files; {newest.name} has ONNX Runtime "
            f"{newest.onnxruntime}."
        )
        return newest.image, reason, newest.name
    version = engines[0].tensorrt
    gpus = ", ".join(sorted({f"{engine.gpu} ({engine.compute_capability})" for engine in engines}))
    reason = f"The engines are built for TensorRT {version} on {gpus}."
    if found := releases_with(version):
        return found[-1].image, f"{reason} Triton {found[-1].name} has it.", found[-1].name
    unknown = (
        f"{reason} No release of Triton is known here to have that TensorRT: look it up in\n{SUPPORT_MATRIX}, put "
        f"the release in place of YY.MM,\nand check with `{FIND_OUT}`."
    )
    return UNKNOWN_IMAGE, unknown, None


def _content(artifact: Mapping[str, Any]) -> str:
    """Return what an artifact is; a model of the ensemble has none."""
    if "file" not in artifact:
        return ""
    kind = f"TensorRT {artifact['engine']['tensorrt']}" if artifact["engine"] else "ONNX"
    return f"{kind}, {artifact['precision']}, {artifact['sizes']}"


def _picture_sizes(network: NetworkModel) -> str:
    """Return a sentence on the pictures that the ensemble takes, whose sides it rounds up."""
    unit = network.signature.multiple_of
    (_, *low), _, (_, *high) = network.profile
    if (low, high) == ([unit] * 2, [LARGEST_SIDE] * 2):
        return "It takes pictures of any size."
    smallest = size_text(side - unit + 1 for side in low)
    return f"It takes pictures of {smallest} to {size_text(high)} (height x width) and refuses others."

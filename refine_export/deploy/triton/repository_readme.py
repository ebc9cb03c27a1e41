"""The README of a model repository: how to start a server on it, which one, and how to ask it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from refine_export import __version__
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.model_config import network_config
from refine_export.deploy.triton.names import ENSEMBLE, POST, PRE, TIMESTEP
from refine_export.deploy.triton.releases import FIND_OUT, NEWEST, RELEASES, SUPPORT_MATRIX, releases_with
from refine_export.deploy.triton.served_models import Network
from refine_export.signature import MULTIPLE_OF, SIGNATURES
from refine_export.support.text import size_text

UNKNOWN = "nvcr.io/nvidia/tritonserver:YY.MM-py3"
_DTYPES = {"TYPE_FP32": "float32", "TYPE_FP16": "float16", "TYPE_UINT8": "uint8"}


def readme_text(networks: Sequence[Network], interpolator: Network | None, options: TritonOptions, name: str) -> str:
    """Markdown.

    Args:
        networks: the models.
        interpolator: what the ensemble is made over, if there is one.
        options: how they are served.
        name: of the repository's folder.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refine_export", "deploy/triton"),
        autoescape=False,  # Markdown; names of folders are shown as they are
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    image, image_words, release_option = _image(networks)
    example = network_config(networks[0], options)
    timed = interpolator is not None and TIMESTEP in interpolator.types
    plans = [plan for network in networks for plan in network.plans]
    compatible = bool(plans) and all(plan.version_compatible for plan in plans)
    return environment.get_template("readme.md.j2").render(
        name=name,
        quoted=shlex.quote(name),
        tool=__version__,
        rows=[*_rows(networks), *(_rows_of_ensemble(interpolator, options) if interpolator else ())],
        ensemble=interpolator is not None,
        timed=timed,
        timestep_words=", and a timestep between 0 and 1," if timed else "",
        size_words=_size_words(interpolator) if interpolator else "",
        curl_pixels=interpolator is not None and _takes_small(interpolator),
        image=image,
        image_words=image_words,
        release_option=release_option,
        python=options.backend == "python",
        cpu=options.device == "cpu",
        any_device=options.device == "auto" and not plans,
        environment="-e NVIDIA_TF32_OVERRIDE=0 " if options.accelerator == "tensorrt" else "",
        backend_config=" \\\n      --backend-config=tensorrt,version-compatible=true" if compatible else "",
        example=ENSEMBLE if interpolator else networks[0].graph,
        inputs=_inputs(networks[0], example.inputs),
        output=SIGNATURES[networks[0].graph].output_names[0],
        releases=list(RELEASES.values()) if plans else [],
        matrix=SUPPORT_MATRIX,
        find_out=FIND_OUT,
    )


def _image(networks: Sequence[Network]) -> tuple[str, str, str]:
    """The container, why that one, and the option that `deploy check` gets."""
    plans = [plan for network in networks for plan in network.plans]
    if not plans:
        newest = RELEASES[NEWEST]
        words = (
            f"Any release from {next(iter(RELEASES))} on takes these files; {newest.name} has ONNX Runtime "
            f"{newest.onnxruntime}."
        )
        return newest.image, words, f" --triton-release {newest.name}"
    version = plans[0].tensorrt
    capabilities = ", ".join(sorted({f"{plan.gpu} ({plan.compute_capability})" for plan in plans}))
    built = f"The plans are built for TensorRT {version} on {capabilities}."
    if found := releases_with(version):
        release = found[-1]
        return release.image, f"{built} Triton {release.name} has it.", f" --triton-release {release.name}"
    words = (
        f"{built} This tool knows no release of Triton with that TensorRT: look it up in\n{SUPPORT_MATRIX}, put the "
        f"release in place of YY.MM,\nand make sure with `{FIND_OUT}`."
    )
    return UNKNOWN, words, ""


def _rows(networks: Sequence[Network]) -> list[list[str]]:
    rows = []
    for network in networks:
        for number, files in enumerate(network.versions, start=1):
            for source in files.values():
                artifact = source.artifact
                what = f"{artifact.engine or 'ONNX'}, {artifact.precision}, {artifact.sizes}"
                sizes = ", ".join(size_text(size) for size in network.sizes)
                batch = f"up to {network.largest_batch}" if network.largest_batch else "as sent"
                rows.append([f"`{network.graph}`", str(number), network.backend, what, batch, sizes])
    return rows


def _rows_of_ensemble(network: Network, options: TritonOptions) -> list[list[str]]:
    around = "python" if options.backend == "python" else "onnxruntime"
    return [
        [f"`{PRE}`", "1", around, "pictures to the inputs of the network", "as sent", ""],
        [f"`{POST}`", "1", around, "its output to a picture", "as sent", ""],
        [f"`{ENSEMBLE}`", "1", "ensemble", f"{PRE}, {network.graph}, {POST}", "as sent", ""],
    ]


def _size_words(network: Network) -> str:
    """Which pictures the ensemble takes."""
    _, height, width = network.fixed
    if height and width:
        low = f"{height - MULTIPLE_OF + 1}x{width - MULTIPLE_OF + 1}"
        return f"It takes pictures of {low} to {height}x{width} (height x width) and refuses others."
    if network.profile:
        low, high = (f"{sizes[1]}x{sizes[2]}" for sizes in (network.profile[0], network.profile[2]))
        return f"It takes pictures that are {low} to {high} (height x width) once their sides are multiples of 32."
    return "It takes pictures of any size."


def _takes_small(network: Network) -> bool:
    _, height, width = network.fixed
    smallest = network.profile[0][1:] if network.profile else (height or MULTIPLE_OF, width or MULTIPLE_OF)
    return max(smallest) <= MULTIPLE_OF


def _inputs(network: Network, tensors: Sequence[Any]) -> list[dict[str, Any]]:
    """Of an example request at the first size that ships."""
    batch = network.fixed[0] or (network.profile[0][0] if network.profile else 1)
    shapes = {spec.name: spec.shape_at(batch, *network.sizes[0]) for spec in SIGNATURES[network.graph].inputs}
    return [{"name": one.name, "shape": shapes[one.name], "dtype": _DTYPES[one.data_type]} for one in tensors]

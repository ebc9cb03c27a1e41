"""`deploy kserve`: a model repository to a KServe InferenceService."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from refine_export.cli.output import clean
from refine_export.cli.verbs.shared_options import ForceOption


def kserve(
    repository: Annotated[Path, typer.Argument(help="The model repository, which has to pass deploy check.")],
    storage_uri: Annotated[
        str, typer.Option("--storage-uri", help="Where it was copied to, such as s3://bucket/models.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the service. Default: interpolate, or the model's.")
    ] = None,
    triton_release: Annotated[
        str | None,
        typer.Option("--triton-release", metavar="YY.MM", help="Default: the newest that is known to run all plans."),
    ] = None,
    gpu: Annotated[int, typer.Option("--gpu", help="GPUs of each replica.")] = 1,
    min_replicas: Annotated[int, typer.Option("--min-replicas", help="0: none while nobody asks.")] = 1,
    max_replicas: Annotated[int, typer.Option("--max-replicas", help="The most there are.")] = 4,
    concurrency: Annotated[
        int, typer.Option("--concurrency", help="Requests under way at a replica before there is one more.")
    ] = 4,
    protocol: Annotated[str, typer.Option("--protocol", help="grpc or http: Knative opens one port.")] = "grpc",
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to write.")] = Path(
        "inferenceservice.yaml"
    ),
    force: ForceOption = False,
) -> None:
    """Write a KServe InferenceService for a model repository: release, resources, probes and autoscaling."""
    from refine_export.deploy.kserve import inference_service
    from refine_export.deploy.kserve_options import KServeOptions
    from refine_export.errors import RequestError
    from refine_export.support.files import write_text

    if output.exists() and not force:
        raise RequestError(f"{output} is there already; expected a new file: choose another, or give --force")
    chosen: Any = protocol
    try:
        options = KServeOptions(
            storage_uri=storage_uri,
            name=name,
            release=triton_release,
            gpus=gpu,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            concurrency=concurrency,
            protocol=chosen,
        )
    except ValueError as error:
        raise RequestError(str(error), code="wrong-option") from error
    made = inference_service(repository, options)
    write_text(output, made.text)
    for note in made.notes:
        typer.echo(f"note: {clean(note)}")
    typer.echo(f"{clean(str(output))}: Triton {made.release}; next: kubectl apply -f {clean(str(output))}")

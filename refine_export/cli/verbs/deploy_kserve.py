"""`deploy kserve`: a model repository to a KServe InferenceService."""

from pathlib import Path
from typing import Annotated, Any

import typer

from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import ForceOption
from refine_export.deploy.kserve_options import KServeOptions
from refine_export.errors import RequestError
from refine_export.jobs.job_options import options_from_keywords
from refine_export.support.text import clean


@stage_options(KServeOptions)
def deploy_kserve(
    repository: Annotated[Path, typer.Argument(help="The model repository, which has to pass deploy check.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to write.")] = Path(
        "inferenceservice.yaml"
    ),
    force: ForceOption = False,
    **options: Any,
) -> None:
    """Write the manifest."""
    from refine_export.deploy.kserve import inference_service  # needs onnx, which --help does not
    from refine_export.support.files import write_text

    if output.exists() and not force:
        problem = "is there already; choose another name, or overwrite it with --force"
        raise RequestError.about(output, "output-exists", problem)
    made = inference_service(repository, options_from_keywords(KServeOptions, options))
    write_text(output, made.text)
    for note in made.notes:
        typer.echo(f"note: {clean(note)}")
    typer.echo(f"{clean(str(output))}: Triton {made.release}; next: kubectl apply -f {clean(str(output))}")

"""Options that several verbs share and that are not options of a stage."""

from pathlib import Path
from typing import Annotated

import typer

RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", help="Recipe with all options (see init); explicit options override it.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]
OwnForceOption = Annotated[
    bool, typer.Option("--force", help="Overwrite a file of another tool; an earlier output is replaced without it.")
]
EngineForceOption = Annotated[
    bool, typer.Option("--force", help="Overwrite a file that is not an engine; an engine is replaced without it.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]

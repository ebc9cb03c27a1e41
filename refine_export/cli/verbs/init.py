"""`init`: a recipe to edit."""

import os
from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.verbs.shared_options import ForceOption
from refine_export.errors import RecipeError
from refine_export.support.text import clean


def init(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("refine-export.toml"),
    force: ForceOption = False,
) -> None:
    """Write the embedded recipe."""
    from refine_export.jobs.recipe import Recipe
    from refine_export.jobs.recipe_file import toml_from_recipe  # needs pydantic, which --help does not
    from refine_export.support.files import user_path, write_text

    path = user_path(str(path))
    if os.path.lexists(path) and not force:
        problem = "is there already; choose another name, or overwrite it with --force"
        raise RecipeError.about(path, "output-exists", problem)
    write_text(path, toml_from_recipe(Recipe()))
    typer.echo(f"wrote {clean(str(path))}; edit it, then: refine-export run --recipe {clean(str(path))}")

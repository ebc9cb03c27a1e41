"""Templates of this package: one way to open them for HTML, Markdown and YAML."""

from __future__ import annotations

import jinja2


def template_environment(folder: str, *, autoescape: bool) -> jinja2.Environment:
    """Open the templates of a folder of this package; an undefined name is an error.

    Args:
        folder: path from the package, such as `report`.
        autoescape: for HTML, whose names and messages are the user's; not for Markdown and YAML.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("refine_export", folder),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

"""One TOML file with the options of all stages; each option is spelled once, where its stage keeps it.

[export]
dynamic = false
size = "1088x1920"
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.engine.build_options import BuildOptions
from refine_export.errors import RecipeError
from refine_export.export.export_options import ExportOptions
from refine_export.lower.lower_options import LowerOptions
from refine_export.signature import GraphName
from refine_export.validate.validate_options import ValidateOptions

LARGEST_BYTES = 65536  # of a recipe


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the main job makes."""

    graphs: tuple[GraphName, ...] = ()
    """Which graphs; without names `refine`, and `interpolator` or `interpolator_m` where the weights make it."""
    output: str = "refine-export-output"
    """Folder for all that is made."""
    require: tuple[Literal["torch", "ort", "trt"], ...] = ()
    """Runtimes without which the verdict is not compared (exit code 3). TensorRT is used where it and a GPU are, and
    named as missing where they are not."""

    def __post_init__(self) -> None:
        if not self.output:
            raise ValueError("output is empty; expected a folder")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of all stages; the defaults are the embedded recipe."""

    run: RunOptions = field(default_factory=RunOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    frames: FramesOptions = field(default_factory=FramesOptions)
    scene: SceneOptions = field(default_factory=SceneOptions)
    export: ExportOptions = field(default_factory=ExportOptions)
    lower: LowerOptions = field(default_factory=LowerOptions)
    build: BuildOptions = field(default_factory=BuildOptions)
    validate: ValidateOptions = field(default_factory=ValidateOptions)


def recipe_from_file(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: no such file, no TOML, unknown keys or wrong values: all of them, each with its line.
    """
    try:
        if path.exists() and not path.is_dir() and (not path.is_file() or path.stat().st_size > LARGEST_BYTES):
            raise RecipeError(f"{path} is no recipe; expected a text file of at most {LARGEST_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        raise RecipeError(
            f"{path} is a directory; give a recipe file, such as the one `refine-export init` writes"
        ) from None
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist; `refine-export init {path}` writes one to edit") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is no text ({error.reason} at byte {error.start}); expected TOML in UTF-8"
        ) from error
    except OSError as error:
        raise RecipeError(f"can't read {path}: {error.strerror}") from error
    return recipe_from_toml(text, name=str(path))


def recipe_from_toml(text: str, *, name: str = "the recipe") -> Recipe:
    """Check a recipe's text; `name` is what errors call it."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise RecipeError(f"{name} is no TOML: {error}") from error
    return _checked(content, text, name)


# What the command line calls an option: section and name in the recipe.
_GIVEN = {
    "checkpoint": ("checkpoint", "path"),
    "frames": ("frames", "pair"),
    "inputs": ("frames", "inputs"),
    "max_pairs": ("frames", "max_pairs"),
    "graphs": ("run", "graphs"),
    "output": ("run", "output"),
    "dynamic": ("export", "dynamic"),
    "size": ("export", "size"),
    "batch": ("export", "batch"),
    "precision": ("lower", "precision"),
    "io": ("lower", "io"),
    "gridsample": ("lower", "gridsample"),
    "target_psnr": ("lower", "target_psnr_db"),
    "max_error": ("lower", "max_error"),
    "sizes": ("validate", "sizes"),
    "runtimes": ("validate", "runtimes"),
    "reference": ("validate", "reference"),
    "allow_host_code": ("validate", "allow_host_code"),
    "require": ("run", "require"),
    **{option.name: ("build", option.name) for option in dataclasses.fields(BuildOptions)},
}


def recipe_with(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The recipe with options of the command line in the place of its own.

    Raises:
        RecipeError: a value is wrong.
    """
    content = {
        section: {name: value for name, value in options.items() if value is not None}
        for section, options in dataclasses.asdict(recipe).items()
    }
    if given.get("dynamic"):  # wins over what the recipe says of a static file
        content["export"] = {"dynamic": True}
    for name, value in given.items():
        section, option = _GIVEN[name]
        content[section][option] = value
    return _checked(content, "", "the command line")


def _checked(content: Mapping[str, Any], text: str, name: str) -> Recipe:
    from pydantic import TypeAdapter, ValidationError

    try:
        # JSON mode: a list may become a tuple, but no text becomes a number.
        return TypeAdapter(_closed(Recipe)).validate_json(json.dumps(content, default=_plain), strict=True)
    except RecursionError as error:
        raise RecipeError(f"{name} is nested too deeply; expected sections with options") from error
    except ValidationError as error:
        problems = [_problem(text, name, details) for details in error.errors(include_url=False)]
        raise RecipeError("\n".join(dict.fromkeys(problems))) from error


def _plain(value: object) -> str | dict[str, str]:
    """Paths of the command line are text; TOML's dates and times are no option's value, not as text either."""
    return str(value) if isinstance(value, Path) else {type(value).__name__: str(value)}


def _closed(recipe: type[Recipe]) -> type[Recipe]:
    """Have pydantic refuse unknown keys, here and in every section."""
    for section in {type(one) for one in _tables(recipe())}:
        section.__pydantic_config__ = {"extra": "forbid"}
    return recipe


def _tables(value: Any) -> Iterator[Any]:
    """A table and all in it."""
    if dataclasses.is_dataclass(value):
        yield value
        for part in dataclasses.fields(value):
            yield from _tables(getattr(value, part.name))


def _problem(text: str, name: str, details: Any) -> str:
    location = [str(part) for part in details["loc"]]
    if not location:  # not even JSON: text that is no Unicode, or too deep
        return f"{name}: {details['msg']}; expected sections with options in UTF-8"
    message = details["msg"].removeprefix("Value error, ")
    section, key = location[0], location[1] if len(location) > 1 else None
    if details["type"] == "value_error" and key is None:
        key = message.split()[0].strip(":")  # the checks of the options begin with the option's name
    named = [part for part in (section, key, *location[2:]) if part and not part.isdigit()]
    line = _line_of(text, named)
    where = f"{name}, line {line}" if line else name
    label = ".".join(named)
    if details["type"] == "unexpected_keyword_argument":
        table = functools.reduce(getattr, named[:-1], Recipe())
        known = ", ".join(part.name for part in dataclasses.fields(table))
        what = "section" if key is None else "key"
        return f"{where}: there is no {what} {label}; expected one of: {known}"
    if details["type"] == "value_error":
        return f"{where}: {section}: {message}"
    return f"{where}: {label} is {json.dumps(details['input'])[:80]}: {message[0].lower()}{message[1:]}"


def _line_of(text: str, names: Sequence[str]) -> int | None:
    """The line of a key as recipes are written: `[section]`, then `key = value`; else the section's line.

    Of a key in a table on one line, that line.
    """
    wanted = [".".join(names[:length]) for length in range(len(names), 0, -1)]
    found: dict[str, int] = {}
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.\"'-]+)\s*\]", line):
            current = header[1].replace('"', "").replace("'", "")
            found.setdefault(current, number)
        elif assignment := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            key = assignment[1].replace('"', "").replace("'", "")
            found.setdefault(f"{current}.{key}" if current else key, number)
    return next((found[path] for path in wanted if path in found), None)


def toml_from_recipe(recipe: Recipe) -> str:
    """The recipe as TOML to edit, each option under its explanation; an option without a value is commented out."""
    lines = ["# Recipe of refine-export: what `refine-export run --recipe THIS_FILE` does.", ""]
    for part in dataclasses.fields(recipe):
        section = getattr(recipe, part.name)
        lines += _section_lines(part.name, section)
    return "\n".join(lines)


def _section_lines(name: str, section: Any) -> list[str]:
    """A section, and those in it behind it."""
    lines = [f"# {(type(section).__doc__ or '').splitlines()[0]}", f"[{name}]"]
    inner = []
    for option in dataclasses.fields(section):
        value = getattr(section, option.name)
        if _is_section(value):
            inner += _section_lines(f"{name}.{option.name}", value)
            continue
        lines += [f"# {line}" for line in _documentation(type(section), option.name)]
        example = '"..."' if "str" in str(option.type) else "..."
        lines.append(f"{option.name} = {_toml(value)}" if value is not None else f"# {option.name} = {example}")
    return [*lines, "", *inner]


def _toml(value: Any) -> str:
    """A value; a table on one line, without what is not given."""
    if not dataclasses.is_dataclass(value):
        return json.dumps(value, ensure_ascii=False)
    given = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
    return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in given.items() if one is not None) + " }"


def _is_section(value: Any) -> bool:
    """A table of tables has a heading of its own; one of values stands on a line."""
    return dataclasses.is_dataclass(value) and all(
        dataclasses.is_dataclass(getattr(value, part.name)) for part in dataclasses.fields(value)
    )


def _documentation(options: type[Any], name: str) -> list[str]:
    """The docstring under a field."""
    import ast
    import inspect
    import textwrap

    tree = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.target.id == name
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            return inspect.cleandoc(str(following.value.value)).splitlines()
    return []

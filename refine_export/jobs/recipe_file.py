"""Recipes as TOML files: read and check one, write one to edit, and put single options into one."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from refine_export.errors import RecipeError
from refine_export.jobs.job_options import SECTIONS, documentation, options_by_keyword, plain_value, wrong_value
from refine_export.jobs.recipe import Recipe
from refine_export.signature import OLD_NAMES
from refine_export.support.files import user_path

LARGEST_BYTES = 65536
"""Upper bound of a recipe's size; larger files are something else."""

AnyRecipe = Recipe | str | os.PathLike[str] | None
"""A recipe, a file with one, or None for the defaults."""


def recipe_from_file(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: the file does not exist, is not TOML, or has unknown keys or wrong values: all of them, each with
            its line.
    """
    try:
        if path.exists() and not path.is_dir() and (not path.is_file() or path.stat().st_size > LARGEST_BYTES):
            problem = f"is not a recipe; expected a text file of at most {LARGEST_BYTES} bytes"
            raise RecipeError.about(path, "not-a-recipe", problem)
        text = path.read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        problem = "is a directory; give a recipe file, such as the one `refine-export init` writes"
        raise RecipeError.about(path, "is-directory", problem) from None
    except FileNotFoundError:
        problem = f"does not exist; `refine-export init {path}` writes one to edit"
        raise RecipeError.about(path, "not-found", problem) from None
    except UnicodeDecodeError as error:
        problem = f"is not text ({error.reason} at byte {error.start}); expected TOML in UTF-8"
        raise RecipeError.about(path, "not-a-recipe", problem) from error
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror}", code="cannot-read", path=path) from error
    return recipe_from_toml(text, name=str(path))


def recipe_from_toml(text: str, *, name: str = "the recipe") -> Recipe:
    """Check a recipe's text; `name` is what errors call it."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise RecipeError(f"{name} is not TOML: {error}", code="not-a-recipe") from error
    return _checked(content, text, name)


def chosen_recipe(recipe: AnyRecipe, **given: Any) -> Recipe:
    """Return a recipe with single options in the place of its own.

    Args:
        recipe: what the options are put into.
        given: options by keyword; None stands for an option that was not given. A size or a batch asks for a static
            file, unless `dynamic` says otherwise.

    Raises:
        RecipeError: the recipe or a value cannot be used.
    """
    if isinstance(recipe, str | os.PathLike):
        base = recipe_from_file(user_path(os.fspath(recipe)))
    elif recipe is None or isinstance(recipe, Recipe):
        base = recipe or Recipe()
    else:
        raise RecipeError(f"recipe is {recipe!r}; expected a Recipe, or a file with one", code="not-a-recipe")
    given = {name: value for name, value in given.items() if value is not None}
    if "dynamic" not in given and ("size" in given or "batch" in given):
        given["dynamic"] = False
    return recipe_with(base, given) if given or base is recipe else base  # the caller's own Recipe was never checked


def recipe_with(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """Return the recipe with options, by keyword, in the place of its own.

    Raises:
        RecipeError: an option is unknown, or a value is wrong.
    """
    content = {}
    for section, options in vars(recipe).items():
        if not isinstance(options, SECTIONS[section]):
            message = f"{section} of the recipe is {options!r:.80}; expected {SECTIONS[section].__name__}"
            raise RecipeError(message, code="wrong-option", option=section)
        content[section] = plain_value(options)
    if given.get("dynamic") is True:  # wins over a recipe with a static file's size and batch
        content["export"] = {"dynamic": True}
    known = options_by_keyword()
    for keyword, value in given.items():
        if keyword not in known:
            raise RecipeError(f"there is no option {keyword!r}", code="unknown-option", option=keyword)
        content[known[keyword].section][known[keyword].name] = value
    return _checked(content, "", "the options")


def _checked(content: Mapping[str, Any], text: str, name: str) -> Recipe:
    content = _with_new_names(content, text, name)
    try:
        # JSON mode: a list may become a tuple, but no text becomes a number.
        plain = json.loads(json.dumps([content], default=plain_value))
        (recipe,) = _adapter().validate_json(json.dumps(_mapped(plain, _STANDING_IN)), strict=True)
        restored: Recipe = _mapped(recipe, _STOOD_FOR)
        return restored
    except RecursionError as error:
        raise RecipeError(
            f"{name} is nested too deeply; expected sections with options", code="not-a-recipe"
        ) from error
    except ValidationError as error:
        problems = [_problem(text, name, details) for details in error.errors(include_url=False)]
        codes = {code for code, _ in problems}
        raise RecipeError(
            "\n".join(dict.fromkeys(message for _, message in problems)),
            code=codes.pop() if len(codes) == 1 else "wrong-option",
            lines=tuple(message for _, message in problems),
        ) from error


_STANDING_IN = {0xDC00 + byte: 0x10DC00 + byte for byte in range(0x80, 0x100)}
"""Surrogates, as Python reads bytes of file names that are not UTF-8; JSON refuses them."""
_STOOD_FOR = {new: old for old, new in _STANDING_IN.items()}


def _mapped(value: Any, characters: Mapping[int, int]) -> Any:
    """Return a value with characters of all its texts replaced."""
    if isinstance(value, str):
        return value.translate(characters)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(one, characters) for one in value)
    if isinstance(value, dict):
        return {key: _mapped(one, characters) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: _mapped(getattr(value, one.name), characters) for one in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value


def _with_new_names(content: Any, text: str, recipe: str) -> Any:
    """Return a recipe in which the graphs to make, and limits of graphs, have the names of this version."""
    if not isinstance(content, Mapping) or not all(isinstance(section, Mapping) for section in content.values()):
        return content  # refused by the types
    new = {name: dict(section) for name, section in content.items()}
    if isinstance(graphs := new.get("run", {}).get("graphs"), list | tuple):
        new["run"]["graphs"] = [OLD_NAMES.get(graph, graph) if isinstance(graph, str) else graph for graph in graphs]
    if isinstance(limits := new.get("validate", {}).get("limits"), Mapping):
        renamed = new["validate"]["limits"] = {}
        for given, value in limits.items():
            name = given
            for old, graph in OLD_NAMES.items():
                name = graph + name.removeprefix(old) if name.startswith(f"{old}_") else name
            if name in renamed:
                old_name = next(one for one in limits if one != name and one.endswith(name.partition("_")[2]))
                line = _line_of(text, ("validate", "limits", old_name))
                raise RecipeError(
                    f"{recipe}{f', line {line}' if line else ''}: validate.limits.{old_name} is now called {name}, "
                    "which is there too; keep one of them",
                    code="renamed-option",
                    option=name,
                    old=old_name,
                )
            renamed[name] = value
    return new


@functools.cache
def _adapter() -> TypeAdapter[tuple[Recipe]]:
    """Return a reader of recipes that refuses unknown keys, also in every section."""
    # pydantic takes no configuration for a dataclass itself, but a tuple hands its own on to every dataclass in it.
    # Setting `__pydantic_config__` on the classes would also change how report.json, which shares some, is read.
    return TypeAdapter(tuple[Recipe], config=ConfigDict(extra="forbid"))


def _problem(text: str, name: str, details: Any) -> tuple[str, str]:
    """Translate one of pydantic's errors: code and message."""
    location = details["loc"][1:]  # without the place in the tuple of `_adapter`
    if "surrogate" in details["msg"]:  # as Python has bytes of file names that are not UTF-8
        return "not-utf-8", f"{name} have text that is not UTF-8; give files and folders other names"
    if not location:  # not even JSON: text that is not Unicode, or too deep
        return "not-a-recipe", f"{name}: {details['msg']}; expected sections with options in UTF-8"
    message = details["msg"].removeprefix("Value error, ")
    section, key = location[0], location[1] if len(location) > 1 else None
    if details["type"] == "value_error" and key is None:
        key = message.split()[0].strip(":")  # messages of the options' own checks begin with the option's name
    named = [part for part in (section, key, *location[2:]) if isinstance(part, str)]  # without places in lists
    line = _line_of(text, named)
    where = f"{name}, line {line}" if line else name
    label = _spelled(named)
    if details["type"] == "unexpected_keyword_argument":
        return _unknown(where, named, is_section=key is None)
    if details["type"] == "value_error":
        return "wrong-option", f"{where}: {section}: {message}"
    problem = f"{where}: {wrong_value(label, details)}"
    if details["type"] == "literal_error":  # one of few values, which the option's own text explains
        owner: Any = Recipe()
        for part in named[:-1]:
            owner = getattr(owner, part, None)
        if meaning := documentation(type(owner)).get(named[-1]):
            problem += f" ({' '.join(meaning.split())})"
    return "wrong-option", problem


def _unknown(where: str, named: Sequence[str], *, is_section: bool) -> tuple[str, str]:
    table = functools.reduce(getattr, named[:-1], Recipe())
    fields = dataclasses.fields(table)
    for field in fields:
        if field.metadata.get("formerly") == named[-1]:
            new = _spelled([*named[:-1], field.name])
            return "renamed-option", f"{where}: {_spelled(named)} is now called {new}; rename it"
    what = "section" if is_section else "key"
    known = ", ".join(field.name for field in fields)
    return "unknown-option", f"{where}: there is no {what} {_spelled(named)}; expected one of: {known}"


def _spelled(names: Sequence[str]) -> str:
    """Join names as TOML has them: those that are empty or have other characters in quotes."""
    return ".".join(name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name) for name in names)


def _line_of(text: str, names: Sequence[str]) -> int | None:
    """Find the line of a key as recipes are written: `[section]`, then `key = value`; else the section's line.

    The line of a key in an inline table is that table's.
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
    """Write a recipe as TOML to edit, each option under its explanation; options without a value are commented out."""
    lines = ["# Recipe of refine-export: what `refine-export run --recipe THIS_FILE` does.", ""]
    for part in dataclasses.fields(recipe):
        lines += _section_lines(part.name, getattr(recipe, part.name))
    return "\n".join(lines)


def _section_lines(name: str, section: Any) -> list[str]:
    """Write a section, and those in it behind it."""
    lines = [f"# {(type(section).__doc__ or '').splitlines()[0]}", f"[{name}]"]
    inner = []
    documented = documentation(type(section))
    for option in dataclasses.fields(section):
        value = getattr(section, option.name)
        if _is_section(value):
            inner += _section_lines(f"{name}.{option.name}", value)
            continue
        lines += [f"# {line}" for line in documented.get(option.name, "").splitlines()]
        example = '"..."' if "str" in str(option.type) else "..."
        lines.append(f"{option.name} = {_toml(value)}" if value is not None else f"# {option.name} = {example}")
    return [*lines, "", *inner]


def _toml(value: Any) -> str:
    """Write a value; a table on one line, without what is not given."""
    if not dataclasses.is_dataclass(value):
        return json.dumps(value, ensure_ascii=False)
    given = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
    return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in given.items() if one is not None) + " }"


def _is_section(value: Any) -> bool:
    """Return whether a value is a table of tables, which has a heading of its own; others stand on one line."""
    return dataclasses.is_dataclass(value) and all(
        dataclasses.is_dataclass(getattr(value, part.name)) for part in dataclasses.fields(value)
    )

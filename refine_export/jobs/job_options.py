"""Every option of every stage as the recipe, the Python API and the command line know it.

An option is a field of its stage's dataclass. The docstring under the field explains it, in `--help` and in the recipe;
the field's metadata says what only one of the three needs:

    flag      on the command line, such as `--min-size` or `--dynamic/--static`; without it, the command line lacks it
    short     a second flag, such as `-o`
    metavar   what `--help` calls the value
    panel     the group of `--help` that the option is in
    keyword   in the Python API, where the field's name is not specific enough
    formerly  the key that recipes of earlier versions have
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from refine_export.errors import RecipeError
from refine_export.jobs.recipe import Recipe
from refine_export.support.text import listed

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

SECTIONS: Mapping[str, type[Any]] = {
    section.name: section.default_factory  # type: ignore[misc]  # every section is made by its class
    for section in dataclasses.fields(Recipe)
}
"""The dataclass of each section of a recipe."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option."""

    section: str
    name: str
    """Name in the recipe."""
    keyword: str
    """Name in the Python API, and of the parameter on the command line."""
    type: Any
    default: Any
    required: bool
    metadata: Mapping[str, Any]
    owner: type[Any]

    @property
    def help(self) -> str:
        """The docstring under the field."""
        return documentation(self.owner).get(self.name, "")


def _options_of(owner: type[Any], section: str = "") -> tuple[Option, ...]:
    """Return the options of a stage's dataclass, in its order."""
    types = get_type_hints(owner)
    return tuple(
        Option(
            section=section,
            name=field.name,
            keyword=field.metadata.get("keyword", field.name),
            type=types[field.name],
            default=field.default if field.default is not dataclasses.MISSING else None,
            required=field.default is field.default_factory is dataclasses.MISSING,
            metadata=field.metadata,
            owner=owner,
        )
        for field in dataclasses.fields(owner)
        if field.init and not field.name.startswith("_")
    )


def select(*wanted: str | type[Any]) -> tuple[Option, ...]:
    """Return the options of a recipe's section (`export`), one of them (`export.size`), or those of a dataclass."""
    chosen: list[Option] = []
    for one in wanted:
        if not isinstance(one, str):
            chosen += _options_of(one)
            continue
        section, _, name = one.partition(".")
        chosen += [option for option in _options_of(SECTIONS[section], section) if name in ("", option.name)]
    return tuple(chosen)


@functools.cache
def options_by_keyword() -> Mapping[str, Option]:
    """Return every option of a recipe; keywords are unique over all sections."""
    return {option.keyword: option for option in select(*SECTIONS)}


def takes_options(*wanted: str | type[Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a function that has `**options` some options as keywords, and show them in its signature.

    Args:
        wanted: as `select` takes them.

    Returns:
        A decorator. What it returns refuses a keyword that is not among them with `unknown-option`, and an argument of
        the function's own that is not of its type with `wrong-option`.
    """
    return functools.partial(_with_keywords, options=select(*wanted))


def _with_keywords(function: Callable[P, R], options: Sequence[Option]) -> Callable[P, R]:
    own = inspect.signature(function)
    parameters = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    named = {one.name for one in parameters}
    parameters += [
        inspect.Parameter(
            option.keyword, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type
        )
        for option in options
        if option.keyword not in named
    ]
    signature = own.replace(parameters=parameters)

    @functools.wraps(function)
    def with_options(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in signature.parameters:
                known = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
                message = f"{function.__name__} has no option {name!r}; expected one of: {listed(known, most=60)}"
                raise RecipeError(message, code="unknown-option", option=name, known=tuple(known))
        _check_types(function, {**dict(zip(own.parameters, args, strict=False)), **kwargs})
        return function(*args, **kwargs)

    with_options.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` looks for
    return with_options


def _check_types(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse arguments whose annotation is a class, or a few: `load_inputs` checks paths, and their stages the options.

    Raises:
        RecipeError: `wrong-option`.
    """
    for name, expected in get_type_hints(function).items():
        kinds = get_args(expected) if isinstance(expected, UnionType) else (expected,)
        kinds = tuple(get_origin(kind) if get_origin(kind) in (Callable, Iterable) else kind for kind in kinds)
        if name not in given or not all(isinstance(kind, type) and get_origin(kind) is None for kind in kinds):
            continue
        if not isinstance(given[name], tuple(Real if kind is float else kind for kind in kinds)):
            names = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            shown = " ".join(repr(given[name]).split())[:80]
            message = f"{function.__name__}: {name} is {shown}; expected {names}"
            raise RecipeError(message, code="wrong-option", option=name)


def part_of(options: Mapping[str, Any], owner: type[Any]) -> dict[str, Any]:
    """Return those of some keywords that are options of a stage and were given; None stands for "not given"."""
    names = {field.name for field in dataclasses.fields(owner)}
    return {name: value for name, value in options.items() if name in names and value is not None}


def options_from_keywords(owner: type[T], given: Mapping[str, Any]) -> T:
    """Make the options of a stage that is not part of the recipe from keywords; None stands for "not given".

    Raises:
        RecipeError: `wrong-option`; one is missing, or has a wrong type or value.
    """
    from pydantic import TypeAdapter, ValidationError  # not needed by --help

    content = json.dumps({name: value for name, value in given.items() if value is not None}, default=plain_value)
    try:
        # JSON mode: a list may become a tuple and a text a path, but no text becomes a number.
        return TypeAdapter(owner).validate_json(content, strict=True)
    except ValidationError as error:
        problems = [wrong_value(".".join(map(str, one["loc"])), one) for one in error.errors(include_url=False)]
        raise RecipeError("\n".join(dict.fromkeys(problems)), code="wrong-option") from error


def plain_value(value: object) -> Any:
    """Convert a value that options may have in Python; TOML's dates and times stay wrong values, not texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: part for name, part in vars(value).items() if part is not None}
    return str(value) if isinstance(value, Path) else {type(value).__name__: str(value)}


def wrong_value(label: str, details: Mapping[str, Any]) -> str:
    """Return the message of one of pydantic's errors on the option `label`."""
    message: str = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":  # of a check of the options' own, which names the option
        return message
    if details["type"] == "missing":
        return f"{label} is missing; it is required"
    return f"{label} is {json.dumps(details['input'])[:80]}: {message[0].lower()}{message[1:]}"


def documentation(owner: type[Any]) -> Mapping[str, str]:
    """Return the docstring under each field of a dataclass, those of its bases included."""
    bases = [base for base in reversed(owner.__mro__) if dataclasses.is_dataclass(base)]
    return {name: text for base in bases for name, text in _documented(base.__module__).get(base.__name__, {}).items()}


@functools.cache
def _documented(module: str) -> Mapping[str, Mapping[str, str]]:
    """Read a module's source once: docstrings under fields exist nowhere else."""
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            for field, below in zip(statement.body, statement.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                ):
                    text = inspect.cleandoc(str(below.value.value))
                    found.setdefault(statement.name, {})[field.target.id] = text
    return found

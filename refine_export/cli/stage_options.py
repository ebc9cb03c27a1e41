"""The typer options of a verb, generated from the dataclasses of the stages (see `jobs/job_options.py`)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from refine_export.errors import RecipeError
from refine_export.jobs.job_options import Option, select

Verb = TypeVar("Verb", bound=Callable[..., None])


def stage_options(*wanted: str | type[Any]) -> Callable[[Verb], Verb]:
    """Give a verb that has `**options` some options, as `job_options.select` takes them.

    The verb receives those that the user gave, by keyword.
    """
    return functools.partial(_with_options, options=select(*wanted))


def _with_options(function: Verb, options: Sequence[Option]) -> Verb:
    own = [
        one
        for one in inspect.signature(function, eval_str=True).parameters.values()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    numbers = {option.keyword for option in options if int in get_args(_without_none(option.type))}
    added = {option.keyword: _parameter(option) for option in options if "flag" in option.metadata}
    own = [one for one in own if one.name not in added]

    # typer reads the signature and the annotations of a function.
    @functools.wraps(function)
    def verb(**given: Any) -> None:
        for keyword in added:
            if given.get(keyword) is None:
                given.pop(keyword, None)  # not given: the recipe's value holds
            elif isinstance(given[keyword], list):  # `--require ort,trt` and `--require ort --require trt` are the same
                parts = [part for value in given[keyword] for part in _parts(value)]
                given[keyword] = [int(one) if keyword in numbers and one.isdecimal() else one for one in parts]
        function(**given)

    # The stage's options come before --force, --quiet and --json, as in every verb.
    first = [one for one in own if one.name not in ("force", "quiet", "as_json")]
    last = [one for one in own if one not in first]
    parameters = [*first, *added.values(), *last]
    parameters.sort(key=lambda one: one.default is not inspect.Parameter.empty)  # required ones first
    keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    verb.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    verb.__annotations__ = {one.name: one.annotation for one in keyword_only}
    return verb  # type: ignore[return-value]  # it is called by typer alone


def _parts(value: Any) -> Iterable[Any]:
    return map(str.strip, value.split(",")) if isinstance(value, str) else [value]


def _parameter(option: Option) -> inspect.Parameter:
    """Return the parameter of one option; its default is None, so that a recipe's value shows through."""
    metadata = option.metadata
    known = _literals(option.type)
    text = option.help.replace("\n", " ")
    if option.default not in (None, (), "") and not isinstance(option.default, bool):
        text += f"  [default: {_text(option.default)}]"  # typer's own would be in parentheses, and be the parser's too
    flags = [metadata["flag"], *([metadata["short"]] if "short" in metadata else [])]
    info = typer.Option(
        *flags,
        metavar=_metavar(option),
        help=text,
        rich_help_panel=metadata.get("panel"),
        show_default=False,
        autocompletion=(lambda: list(known)) if known else None,
        callback=_check_two_files if metadata.get("metavar") == "A B" else None,
    )
    return inspect.Parameter(
        option.keyword,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if option.required else None,
        annotation=Annotated[_cli_type(option), info],
    )


def _check_two_files(files: tuple[Path, Path] | None) -> tuple[Path, Path] | None:
    """Refuse a next option in place of a file: the parser takes two words, whatever they are.

    Raises:
        RecipeError: `wrong-option`.
    """
    for place, file in zip(("first", "second"), files or (), strict=False):
        if str(file).startswith("-") and not file.exists():
            raise RecipeError(
                f"--frames takes two picture files, and the {place} is {file}; give both, as in --frames A.png B.png",
                code="wrong-option",
            )
    return files


def _cli_type(option: Option) -> Any:
    """Return the type that typer parses: choices are checked with the recipe, which names the wrong one."""
    if option.metadata.get("metavar") == "A B":
        return tuple[Path, Path] | None
    kind = _without_none(option.type)
    if get_origin(kind) is tuple and option.required:
        return list[str]
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return list[str if get_origin(inner) is Literal or inner is int else inner] | None  # type: ignore[misc]
    if get_origin(kind) is Literal:
        return str | None
    return kind | None


def _metavar(option: Option) -> str | None:
    """Return what stands for the value: its name or its choices, with `[,...]` where several are taken."""
    name = option.metadata.get("metavar") or "|".join(_literals(option.type))
    several = get_origin(_without_none(option.type)) is tuple and name != "A B"
    return f"{name or 'VALUE'}[,...]" if several else name or None


def _literals(kind: Any) -> tuple[str, ...]:
    kind = _without_none(kind)
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        [kind] = [one for one in get_args(kind) if one is not NoneType]
    return kind


def _text(default: Any) -> str:
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)

"""Profile shapes: the smallest, best and largest shape of each input of an engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from refine_export.engine.build_options import BuildOptions
from refine_export.errors import GraphError
from refine_export.signature import Signature, TensorInfo, TensorSpec, fitting_size
from refine_export.support.text import size_text

Shape = tuple[int, ...]
Range = tuple[int, int, int]
"""Smallest, best, largest."""

_AXES: Mapping[str, int] = {"N": 0, "H": 2, "W": 3}
_WORDS: Mapping[str, str] = {"N": "batch", "H": "height", "W": "width"}
_DERIVED = re.compile(r"[*/+]")
"""Operators in a symbol whose size is computed from another one, such as `H/2` or `2*H`."""


@dataclass(frozen=True, kw_only=True)
class InputShapes:
    """The shapes that an engine takes at one input."""

    name: str
    minimum: Shape
    optimum: Shape
    maximum: Shape
    dynamic: bool
    """The file leaves a dimension free, so that the optimization profile must name this input."""


def shapes_from_options(
    inputs: Iterable[TensorInfo], options: BuildOptions, signature: Signature | None
) -> tuple[InputShapes, ...]:
    """Return what `BuildOptions` mean for a file: one entry per input, in order.

    A size that the file fixes is the file's own, min = opt = max; where all are fixed, there is no profile. An option
    that was given for it must be the same; one that is at its default counts as not given.

    Args:
        inputs: of the ONNX file, without weights; a free dimension is a string.
        options: batches, and sizes in pixels of the full frame.
        signature: of the file (`artifacts.signature_of_model`); None for other graphs: then four-dimensional inputs are
            taken for N, C, H, W of the full frame, and everything else must be fixed.

    Raises:
        GraphError: `bad-shape`; sizes that disagree with each other or with the options, a file whose size is not a
            multiple of the graph's, or free dimensions whose meaning is not known.
        RequestError: `wrong-size`; a size in the options is not a multiple of the graph's.
    """
    known = list(inputs)
    asked = _asked(options, signature.multiple_of if signature else 1)
    specs = {spec.name: spec for spec in signature.inputs} if signature else {info.name: _spec(info) for info in known}
    if missing := sorted(specs.keys() ^ {info.name for info in known}):
        raise GraphError(
            f"inputs {', '.join(missing)} are in only one of the file and its graph; export again",
            code="bad-shape",
        )
    sizes = {}
    for axis, place in _AXES.items():
        fixed_by = _fixed_by(place, known, signature)
        if fixed_by is not None:
            _check_asked(axis, fixed_by, options, asked[axis])
        size = None if fixed_by is None else fixed_by.shape[place]
        sizes[axis] = (size, size, size) if isinstance(size, int) else asked[axis]
    if signature is not None:
        _check_multiples(sizes, signature)
    found = tuple(_shapes(info, specs[info.name], sizes) for info in known)
    _check_symbols(known, found)
    return found


def _asked(options: BuildOptions, unit: int) -> dict[str, Range]:
    default = options.opt_size == BuildOptions.opt_size
    opt = fitting_size(options.opt_size, unit, default=default)
    low, high = (fitting_size(size, unit) if size else opt for size in (options.min_size, options.max_size))
    return {
        "N": (options.min_batch, options.opt_batch, options.max_batch),
        "H": (low[0], opt[0], high[0]),
        "W": (low[1], opt[1], high[1]),
    }


def _spec(info: TensorInfo) -> TensorSpec:
    """Batch, height and width among the dimensions of an input of a graph that is not one of ours."""
    if len(info.shape) == 4:
        dims = tuple(axis if isinstance(dim, str) else dim for dim, axis in zip(info.shape, "NCHW", strict=True))
    else:
        dims = info.shape
    known = [dim for dim in dims if isinstance(dim, int) or (len(info.shape) == 4 and dim in _AXES)]
    derived = [dim for dim in info.shape if isinstance(dim, str) and _DERIVED.search(dim)]
    if len(known) != len(dims) or derived or any(isinstance(dim, int) and dim < 1 for dim in dims):
        raise GraphError(
            f"input {info.name} is {size_text(info.shape)}; expected fixed dimensions, or N, C, H, W of the full frame "
            "with N, H or W free: export it with fixed sizes",
            code="bad-shape",
        )
    return TensorSpec(name=info.name, quantity="features", shape=dims)


def _fixed_by(place: int, inputs: list[TensorInfo], signature: Signature | None) -> TensorInfo | None:
    """The input that fixes the frames' size along an axis; None where it is free.

    Of our graphs that is the first picture; of others the first input of four dimensions, if none is free there
    (a timestep of Nx1x1x1 fixes no frame's size).
    """
    if signature is not None:
        [picture] = [info for info in inputs if info.name == signature.inputs[0].name]
        return picture if len(picture.shape) == 4 and isinstance(picture.shape[place], int) else None
    planes = [info for info in inputs if len(info.shape) == 4]
    return planes[0] if planes and all(isinstance(info.shape[place], int) for info in planes) else None


def _check_asked(axis: str, fixed_by: TensorInfo, options: BuildOptions, asked: Range) -> None:
    size = fixed_by.shape[_AXES[axis]]
    names = ("min_batch", "opt_batch", "max_batch") if axis == "N" else ("min_size", "opt_size", "max_size")
    defaults = {field.name: field.default for field in fields(BuildOptions)}
    for name, value in zip(names, asked, strict=True):
        given = getattr(options, name)
        if given != defaults[name] and value != size:
            raise GraphError(
                f"the file is made for {_WORDS[axis]} {size} ({fixed_by.name} is {size_text(fixed_by.shape)}), and "
                f"{name} is {given}; expected the file's own: leave {name} out, or export with free sizes",
                code="bad-shape",
            )


def _check_multiples(sizes: Mapping[str, Range], signature: Signature) -> None:
    wrong = [f"{_WORDS[axis]} {size}" for axis in "HW" for size in sizes[axis] if size % signature.multiple_of]
    if wrong:
        raise GraphError(
            f"the file is made for {' and '.join(dict.fromkeys(wrong))}; {signature.graph} takes multiples of "
            f"{signature.multiple_of} only: export it at such a size, and pad the frames",
            code="bad-shape",
        )


def _shapes(info: TensorInfo, spec: TensorSpec, sizes: Mapping[str, Range]) -> InputShapes:
    low, opt, high = (spec.shape_at(*(sizes[axis][place] for axis in _AXES)) for place in range(3))
    for shape in (low, opt, high):
        fits = len(shape) == len(info.shape) and all(
            isinstance(dim, str) or dim == size for dim, size in zip(info.shape, shape, strict=True)
        )
        if not fits:
            raise GraphError(
                f"input {info.name} is {size_text(info.shape)}; expected {size_text(shape)}, as the other inputs' "
                "sizes have it: export the file again",
                code="bad-shape",
            )
    dynamic = any(isinstance(dim, str) for dim in info.shape)
    return InputShapes(name=info.name, minimum=low, optimum=opt, maximum=high, dynamic=dynamic)


def _check_symbols(inputs: list[TensorInfo], found: tuple[InputShapes, ...]) -> None:
    """One symbol is one size in all of a file (TensorRT checks it at every run only); `?` names none."""
    first: dict[str, tuple[str, Range]] = {}
    for info, shapes in zip(inputs, found, strict=True):
        for place, dim in enumerate(info.shape):
            if isinstance(dim, int) or not dim or "?" in dim:
                continue
            here = (shapes.minimum[place], shapes.optimum[place], shapes.maximum[place])
            name, there = first.setdefault(dim, (info.name, here))
            if here != there:
                raise GraphError(
                    f"the dimension {dim!r} would be {'/'.join(map(str, there))} in {name} and "
                    f"{'/'.join(map(str, here))} in {info.name} (min/opt/max); expected one size for one name: choose "
                    "such options, or export with names of their own",
                    code="bad-shape",
                )

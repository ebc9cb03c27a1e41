"""Probe of how a runtime samples: a graph of two GridSample nodes whose answer separates right sampling from wrong.

A runtime that takes `bilinear` for nearest (as TensorRT's parser of 10.1 to 11.1 does with opset 20's `linear`),
`border` for zeros, or ignores `align_corners`, gives pictures that are plausible and wrong. It takes milliseconds:

    with OrtRunner(probe_model()) as runner:
        problems = sampler_problems(runner.run)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from refine_export.runners.base import Arrays

TOLERANCE = 5e-3
"""Largest difference of values in [0, 1]; FP16 features cost 5e-4, and a wrong answer more than 0.1 somewhere."""
_SIDE, _POINTS = 8, 6
_PROBLEMS = ("nearest", "zeros padding", "unaligned corners")


def probe_model(*, mode: str = "bilinear", padding: str = "border", aligned: bool = True) -> bytes:
    """Return the probe as an ONNX file of opset 18, with the attributes that our exports have; others for tests.

    `picture` [1, 2, 8, 8] is sampled at `grid` [1, 6, 6, 2], and the result once more: two nodes, as a runtime may
    treat a GridSample that follows another one differently.
    """
    grid = [1, _POINTS, _POINTS, 2]
    sampling: dict[str, Any] = {"mode": mode, "padding_mode": padding, "align_corners": int(aligned)}
    graph = helper.make_graph(
        [
            helper.make_node("GridSample", ["picture", "grid"], ["once"], name="probe_once", **sampling),
            helper.make_node("GridSample", ["once", "grid"], ["twice"], name="probe_twice", **sampling),
        ],
        "sampler_probe",
        [
            helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 2, _SIDE, _SIDE]),
            helper.make_tensor_value_info("grid", TensorProto.FLOAT, grid),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, *grid[1:3]]) for name in ("once", "twice")],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()
    return content


def probe_feeds() -> dict[str, NDArray[np.float32]]:
    """Return a picture of noise in [0.2, 1] and points between pixels, some of them outside the picture."""
    generator = np.random.Generator(np.random.PCG64(20))
    picture = generator.uniform(0.2, 1, (1, 2, _SIDE, _SIDE))
    grid = generator.uniform(-1.25, 1.25, (1, _POINTS, _POINTS, 2))
    return {"picture": picture.astype(np.float32), "grid": grid.astype(np.float32)}


def sampler_problems(run: Callable[[Arrays], Mapping[str, NDArray[Any]]]) -> tuple[str, ...]:
    """Run the probe and name what is wrong with the answer.

    Args:
        run: computes the outputs of `probe_model()` from feeds by name, in any runtime.

    Returns:
        Some of `nearest`, `zeros padding` and `unaligned corners` where the answer is one of those, else a sentence
        with the error; empty where the runtime samples right.
    """
    found = run(probe_feeds())
    errors = {problems: _error(found, answer) for problems, answer in _answers().items()}
    best = min(errors, key=lambda problems: errors[problems])
    if errors[best] <= TOLERANCE:
        return best
    return (f"unknown sampling, off by {errors[()]:.2g}",)


@functools.cache
def _answers() -> Mapping[tuple[str, ...], Mapping[str, NDArray[Any]]]:
    """The outputs for every combination of problems, in FP64."""
    answers = {}
    picture, grid = (probe_feeds()[name][0].astype(np.float64) for name in ("picture", "grid"))
    for problems in (named for count in range(4) for named in combinations(_PROBLEMS, count)):
        once = _sample(picture, grid, problems)
        answers[problems] = {"once": once[None], "twice": _sample(once, grid, problems)[None]}
    return answers


def _sample(picture: NDArray[Any], grid: NDArray[Any], problems: tuple[str, ...]) -> NDArray[Any]:
    """GridSample as ONNX defines it at opset 16 (https://onnx.ai/onnx/operators/onnx__GridSample.html).

    Args:
        picture: [C, H, W]
        grid: [H, W, 2], x first, normalised.
        problems: what goes wrong; without any, the sampling is bilinear, border, aligned.
    """
    height, width = picture.shape[1:]
    size = np.array([width, height])
    unaligned = "unaligned corners" in problems
    place = ((grid + 1) * size - 1) / 2 if unaligned else (grid + 1) / 2 * (size - 1)
    if "zeros padding" not in problems:
        place = np.clip(place, 0, size - 1)

    def pixel(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        column, row = (np.clip(value, 0, limit - 1).astype(int) for value, limit in ((x, width), (y, height)))
        return np.where(inside, picture[:, row, column], 0.0)

    if "nearest" in problems:
        return pixel(*np.moveaxis(np.rint(place), -1, 0))
    x, y = np.moveaxis(np.floor(place), -1, 0)
    right, below = np.moveaxis(place - np.floor(place), -1, 0)
    upper = pixel(x, y) * (1 - right) + pixel(x + 1, y) * right
    lower = pixel(x, y + 1) * (1 - right) + pixel(x + 1, y + 1) * right
    blended: NDArray[Any] = upper * (1 - below) + lower * below
    return blended


def _error(found: Mapping[str, NDArray[Any]], answer: Mapping[str, NDArray[Any]]) -> float:
    """Largest absolute difference; infinite where an output is missing, of another shape, or not finite."""
    worst = 0.0
    for name, expected in answer.items():
        given = found.get(name)
        if given is None or given.shape != expected.shape or not np.isfinite(given).all():
            return float("inf")
        worst = max(worst, float(np.abs(given.astype(np.float64) - expected).max()))
    return worst

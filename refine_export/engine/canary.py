"""The canary: a small network with two GridSample, built and run before the real one, that shows how TensorRT samples.

Two warps of one picture along one flow, there and back, as in the networks: FP16 nodes around them, FP32 inside. The
inputs are such that nearest, zeros padding, unaligned corners and FP16 coordinates each give another answer. Computing
the expected one takes no framework: it is numpy in FP64.

Shapes: `picture` (1, 2, H, W) FP16 and `flow` (1, 2, H, W) FP32 in pixels, x first; `warped` (1, 4, H, W) FP16.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refine_export.runners.base import Arrays

HEIGHT: Final = 16
WIDTH: Final = 2048
"""Wide, so that an FP16 coordinate is off by up to (W - 1) / 2 * 2^-12 = 0.25 pixels."""
OPSET: Final = 18
TOLERANCE: Final = 2e-3
"""Of values in [0, 1]: FP16 rounds them by 2.5e-4, FP32 coordinates move them by 1e-4."""
OUTPUT: Final = "warped"


@dataclass(frozen=True, kw_only=True)
class Canary:
    """What an engine made of the canary; for the manifest."""

    passed: bool
    error: float | None
    """Largest absolute difference from the right answer; None where it is not finite or has another shape."""
    fault: str | None
    """The wrong answer that it looks like: `nearest`, `zeros padding`, `unaligned corners`, `fp16 coordinates`,
    `not finite`, `shape`, or `unknown`."""
    distances: Mapping[str, float]
    """Mean absolute difference from the right answer (`right`) and from each wrong one."""

    @property
    def words(self) -> str:
        """One sentence."""
        if self.passed:
            return f"GridSample is bilinear, border, aligned, with FP32 coordinates (off by {self.error:.1e})"
        size = "" if self.error is None else f" (off by {self.error:.2g})"
        return f"GridSample gives a wrong answer{size}; it looks like: {self.fault}"


def canary_onnx() -> bytes:
    """The network as an ONNX file of opset 18, static, every node named."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    shape = [1, 2, HEIGHT, WIDTH]
    sampling = {"mode": "bilinear", "padding_mode": "border", "align_corners": 1}
    constants = {
        "half": np.float16(0.5),
        "two": np.float16(2),
        "base": _base_grid().astype(np.float32)[None],
        "scale": _scale().astype(np.float32),
    }
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Mul", ["picture", "half"], "dark", {}),
        ("Cast", ["dark"], "dark32", {"to": single}),
        ("Transpose", ["flow"], "flow_last", {"perm": [0, 2, 3, 1]}),
        ("Mul", ["flow_last", "scale"], "step", {}),
        ("Add", ["base", "step"], "grid0", {}),
        ("Sub", ["base", "step"], "grid1", {}),
        ("GridSample", ["dark32", "grid0"], "sampled0", sampling),
        ("GridSample", ["dark32", "grid1"], "sampled1", sampling),
        ("Concat", ["sampled0", "sampled1"], "sampled", {"axis": 1}),
        ("Cast", ["sampled"], "sampled16", {"to": half}),
        ("Mul", ["sampled16", "two"], OUTPUT, {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], name=f"canary_{made}", **more) for kind, given, made, more in nodes],
        "canary",
        [helper.make_tensor_value_info("picture", half, shape), helper.make_tensor_value_info("flow", single, shape)],
        [helper.make_tensor_value_info(OUTPUT, half, [1, 4, HEIGHT, WIDTH])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def canary_feeds() -> Arrays:
    """Inputs by name: noise of multiples of 1/256, and a flow of fractions of pixels that leaves the picture."""
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(20))
    picture = generator.integers(0, 257, (1, 2, HEIGHT, WIDTH)) / 256
    flow = generator.uniform(-6, 6, (1, 2, HEIGHT, WIDTH))
    return {"picture": picture.astype(np.float16), "flow": flow.astype(np.float32)}


def check_canary(actual: NDArray[Any]) -> Canary:
    """Say what an engine's answer to `canary_feeds` looks like.

    Args:
        actual: its output `warped`.
    """
    import numpy as np

    answers = expected_outputs()
    right = answers["right"]
    if actual.shape != right.shape:
        return Canary(passed=False, error=None, fault="shape", distances={})
    if not np.isfinite(actual).all():
        return Canary(passed=False, error=None, fault="not finite", distances={})
    error = float(np.abs(actual - right).max())
    distances = {name: float(np.abs(actual - answer).mean()) for name, answer in answers.items()}
    fault = None
    if error > TOLERANCE:
        nearest = min(distances, key=lambda name: distances[name])
        similar = nearest != "right" and distances[nearest] < distances["right"] / 2
        fault = nearest if similar else "unknown"
    return Canary(passed=fault is None, error=error, fault=fault, distances=distances)


@functools.cache
def expected_outputs() -> Mapping[str, NDArray[Any]]:
    """The right answer (`right`) and each wrong one by the name of its fault, (1, 4, H, W) in FP64."""
    import numpy as np

    feeds = canary_feeds()
    picture = feeds["picture"][0].astype(np.float64)
    step = feeds["flow"][0].transpose(1, 2, 0).astype(np.float64) * _scale()
    grids = [_base_grid() + step, _base_grid() - step]
    coarse = [grid.astype(np.float16).astype(np.float64) for grid in grids]

    def both(places: list[NDArray[Any]], **options: bool) -> NDArray[Any]:
        return np.concatenate([_sample(picture, grid, **options) for grid in places])[None]

    return {
        "right": both(grids),
        "nearest": both(grids, nearest=True),
        "zeros padding": both(grids, zeros=True),
        "unaligned corners": both(grids, aligned=False),
        "fp16 coordinates": both(coarse),
    }


def _base_grid() -> NDArray[Any]:
    """Normalised position of each pixel, -1 to 1 at the centres of the outermost: (H, W, 2), x first."""
    import numpy as np

    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    return np.stack([x, y], axis=-1)


def _scale() -> NDArray[Any]:
    """Normalised units per pixel, x first."""
    import numpy as np

    return np.array([2 / (WIDTH - 1), 2 / (HEIGHT - 1)])


def _sample(
    picture: NDArray[Any],
    grid: NDArray[Any],
    *,
    nearest: bool = False,
    zeros: bool = False,
    aligned: bool = True,
) -> NDArray[Any]:
    """GridSample as ONNX defines it at opset 16 (https://onnx.ai/onnx/operators/onnx__GridSample.html).

    Args:
        picture: (C, H, W)
        grid: (H, W, 2), x first, normalised.
        nearest, zeros, aligned: what goes wrong; the defaults are bilinear, border, aligned.
    """
    import numpy as np

    size = np.array([WIDTH, HEIGHT])
    place = (grid + 1) / 2 * (size - 1) if aligned else ((grid + 1) * size - 1) / 2
    if not zeros:
        place = np.clip(place, 0, size - 1)

    def pixel(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
        column, row = (np.clip(value, 0, limit - 1).astype(int) for value, limit in ((x, WIDTH), (y, HEIGHT)))
        return np.where(inside, picture[:, row, column], 0.0)

    if nearest:
        return pixel(*np.moveaxis(np.rint(place), -1, 0))
    x, y = np.moveaxis(np.floor(place), -1, 0)
    right, below = np.moveaxis(place - np.floor(place), -1, 0)
    upper = pixel(x, y) * (1 - right) + pixel(x + 1, y) * right
    lower = pixel(x, y + 1) * (1 - right) + pixel(x + 1, y + 1) * right
    blended: NDArray[Any] = upper * (1 - below) + lower * below
    return blended

"""Measure how large the tensors of a graph become on calibration feeds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from refine_export.data.npz_feeds import NamedFeed
from refine_export.errors import GraphError, RequestError
from refine_export.graph.fragile_values import divisors
from refine_export.graph.model_file import bytes_from_model
from refine_export.graph.prepare import float_values
from refine_export.graph.tensor_ranges import MEASURES, TensorRange, with_ranges
from refine_export.runners.onnxruntime import OrtRunner


def ranges_from_feeds(model: ir.Model, feeds: Iterable[NamedFeed]) -> dict[str, TensorRange]:
    """Run a prepared FP32 graph on each feed and return the largest magnitude and the shape of every FP32 tensor.

    Args:
        model: prepared; not modified.
        feeds: name, for messages, and an array for each input.

    Raises:
        GraphError: ONNX Runtime cannot load it.
        RequestError: a feed does not fit the graph, or a tensor becomes NaN or infinite on it.
        UnavailableError: ONNX Runtime is missing.
    """
    hung_on = list(dict.fromkeys(value.name or "" for value in divisors(model.graph).values()))
    copy, names = with_ranges(model, float_values(model.graph), hung_on)
    found: dict[str, TensorRange] = {}
    try:
        opened = OrtRunner(bytes_from_model(copy), optimize=False)  # the outputs leave nothing to fuse
    except GraphError as error:
        raise GraphError(
            f"the FP32 model has to run, for calibration: {error}; expected operators that ONNX Runtime has: replace "
            "custom ones by standard ones",
            code="cannot-run",
        ) from error
    with opened as runner:
        for feed_name, arrays in feeds:
            outputs = list(runner.run(arrays).values())
            smallest = {name: float(least) for name, least in zip(hung_on, outputs[-len(hung_on) :], strict=False)}
            for index, name in enumerate(names):
                measured = outputs[len(MEASURES) * index :][: len(MEASURES)]
                highest, lowest, total, shape = measured
                sizes = tuple(int(size) for size in shape)
                magnitude = float(max(abs(highest), abs(lowest))) if 0 not in sizes else 0.0
                # NaN shows in the total alone, which may also be NaN by adding infinities of both signs. Infinity
                # inside of a graph is not a fault: a mask may hold it.
                nan = np.isnan(magnitude) or (np.isnan(total) and not np.isinf(magnitude))
                if nan or (np.isinf(magnitude) and name in arrays):
                    raise RequestError(
                        f"tensor {name!r} becomes NaN or infinite in FP32 on the feed {feed_name}; expected a graph "
                        "that works: check the weights and the feed",
                        code="not-finite",
                        tensor=name,
                        feed=feed_name,
                    )
                one = TensorRange(magnitude, sizes, smallest.get(name, math.inf))
                found[name] = one.joined(found.get(name, one))
    if not found:
        raise RequestError("there is no feed to calibrate with; expected one or more", code="no-feeds")
    return found

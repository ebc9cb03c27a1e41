"""Feeds that show how large a graph's tensors become, and what they showed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from refine_export.errors import GraphError, RequestError
from refine_export.runners.onnxruntime import OrtRunner

if TYPE_CHECKING:
    import onnx_ir as ir

    from refine_export.graph.tensor_ranges import TensorRange
    from refine_export.runners.base import Arrays


def ranges_from_feeds(model: ir.Model, feeds: Iterable[tuple[str, Arrays]]) -> dict[str, TensorRange]:
    """Run a prepared FP32 graph on each feed and note the largest magnitude and the shape of every FP32 tensor.

    Args:
        model: prepared; not modified.
        feeds: name, for messages, and an array for each input.

    Raises:
        GraphError: ONNX Runtime can't load it.
        RequestError: a feed does not fit the graph, or a tensor becomes NaN or infinite on it.
        UnavailableError: ONNX Runtime is missing.
    """
    import numpy as np

    from refine_export.graph.model_file import bytes_from_model
    from refine_export.graph.prepare import float_values
    from refine_export.graph.tensor_ranges import TensorRange, with_ranges

    copy, names = with_ranges(model, float_values(model.graph))
    found: dict[str, TensorRange] = {}
    try:
        opened = OrtRunner(bytes_from_model(copy), optimize=False)  # the outputs leave nothing to fuse
    except GraphError as error:
        raise GraphError(
            f"the FP32 model has to run, for calibration: {error}; expected operators that ONNX Runtime has: replace "
            "custom ones by standard ones"
        ) from error
    del copy
    with opened as runner:
        for feed_name, arrays in feeds:
            outputs = list(runner.run(arrays).values())
            for index, name in enumerate(names):
                largest, smallest, total, shape = outputs[4 * index : 4 * index + 4]
                sizes = tuple(int(size) for size in shape)
                magnitude = float(max(abs(largest), abs(smallest))) if 0 not in sizes else 0.0
                infinite = np.isinf(magnitude) and name in arrays  # inside, a mask may be
                if np.isnan(magnitude) or (np.isnan(total) and not np.isinf(magnitude)) or infinite:
                    raise RequestError(
                        f"tensor {name!r} becomes NaN or infinite in FP32 on the feed {feed_name}; expected a graph "
                        "that works: check the weights and the feed"
                    )
                known = found.get(name)
                if known is None:
                    found[name] = TensorRange(magnitude, sizes)
                else:
                    larger = max(sizes, known.shape, key=lambda sizes: int(np.prod(sizes)))
                    found[name] = TensorRange(max(magnitude, known.largest), larger)
    if not found:
        raise RequestError("there is no feed to calibrate with; expected one or more")
    return found

"""The torch reference of a graph, and what rounding alone costs it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from refine_export.accuracy.metrics import Rounding, compare, signal_to_noise
from refine_export.data.feeds import Feed
from refine_export.runners.base import Arrays
from refine_export.runners.torch import TorchRunner
from refine_export.signature import FilePrecision, GraphName, Quantity
from refine_export.support.memory import return_freed_memory

if TYPE_CHECKING:
    from torch import nn  # optional: annotations alone must not need it


class Reference(TorchRunner):
    """A graph of a reference network that can say how far rounding alone moves its outputs.

    Args:
        network: the module of `reference_network`.
        graph: one of the graphs.
        dtype: type of its arithmetic.
    """

    def __init__(
        self, network: nn.Module, graph: GraphName, *, dtype: Literal["float32", "float64"] = "float32"
    ) -> None:
        super().__init__(network, graph, dtype=dtype)
        self._source = network, graph
        self._known: dict[tuple[FilePrecision, str], Mapping[str, Rounding]] = {}
        self._least: dict[tuple[FilePrecision, tuple[int, ...]], Mapping[str, Rounding]] = {}

    def roundings(self, precision: FilePrecision, feed: Feed, expected: Arrays) -> Iterator[Mapping[str, Rounding]]:
        """Yield what rounding costs, by output: the least that it cost other feeds of the size, then this feed's own.

        A run with rounded values costs a little more than one without. It is made for the first feed of a size, and
        again only where a file would fail otherwise. The probe, which is to see the smallest fault, has its own.

        Args:
            precision: of the candidate.
            feed: the inputs.
            expected: this reference's outputs for them.
        """
        size = precision, next(iter(feed.inputs.values())).shape
        own = precision, feed.name
        if not feed.probe and size in self._least:
            yield self._least[size]
        if own not in self._known:
            network, graph = self._source
            return_freed_memory()
            with TorchRunner(network, graph, rounded_to=precision) as runner:
                rounded = runner.run(feed.inputs)
            self._known[own] = found = {
                spec.name: _rounding(expected[spec.name], rounded[spec.name], spec.quantity, feed)
                for spec in self.signature.outputs
            }
            if not feed.probe:
                least = self._least.get(size, found)
                self._least[size] = {name: max(least[name], found[name], key=lambda one: one.psnr_db) for name in found}
        yield self._known[own]


def _rounding(expected: NDArray[Any], rounded: NDArray[Any], quantity: Quantity, feed: Feed) -> Rounding:
    metrics = compare(expected, rounded, quantity)
    if metrics.max_abs is None:  # rounding breaks the network, so nothing can be asked of a file
        return Rounding(max_of_peak=1.0, psnr_db=0.0, feed=feed.name)
    return Rounding(
        max_of_peak=metrics.max_of_peak,
        psnr_db=math.inf if metrics.psnr_db is None else metrics.psnr_db,
        snr_db=signal_to_noise(expected, rounded) if feed.probe else None,
        feed=feed.name,
    )

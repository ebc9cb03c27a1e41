"""Name the wrong sampling that a model's own answer shows, where the two nodes of `sampler_probe` cannot be run.

A server runs the models of its repository only. So the reference is run once more with each wrong sampler: the answer
of a backend that samples wrongly is near to one of those. Imports torch; import it when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from torch import nn
from torch.nn import functional

from refine_export.runners.base import Arrays
from refine_export.runners.rounded_arithmetic import InsideWarp
from refine_export.runners.torch import TorchRunner
from refine_export.signature import GraphName

WRONG: Final[Mapping[str, Mapping[str, Any]]] = {
    "nearest": {"mode": "nearest"},
    "zeros padding": {"padding_mode": "zeros"},
    "unaligned corners": {"align_corners": False},
}
"""Attributes of grid_sample, by the names that `sampler_probe` has for the faults."""
CLEARLY: Final = 4.0
"""Mean squared error from the right outputs, in units of that from the outputs of a wrong sampler."""


class _WrongSampling(InsideWarp):
    def __init__(self, attributes: Mapping[str, Any]) -> None:
        super().__init__()
        self._attributes = attributes

    def call(self, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        return func(*args, **{**kwargs, **(self._attributes if func is functional.grid_sample else {})})


def sampling_shown(
    reference: nn.Module, graph: GraphName, inputs: Arrays, expected: Arrays, actual: Arrays
) -> str | None:
    """Return the fault of sampling, such as `nearest`, that explains a wrong answer; None where none does.

    Args:
        reference: the network of `reference_network`.
        graph: of the model.
        inputs: of the answer, in FP32.
        expected: the reference's outputs.
        actual: the answer, finite and of the same shapes.
    """

    def squared(outputs: Arrays) -> float:
        return sum(float(np.mean(np.square(outputs[name] - actual[name]), dtype=np.float64)) for name in expected)

    errors = {}
    with TorchRunner(reference, graph) as runner:
        for name, attributes in WRONG.items():
            with _WrongSampling(attributes):
                errors[name] = squared(runner.run(inputs))
    nearest = min(errors, key=lambda name: errors[name])
    return nearest if CLEARLY * errors[nearest] < squared(expected) else None

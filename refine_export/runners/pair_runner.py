"""Feed an interpolator with one stacked input as the others are: `img0`, `img1` and `timestep` in, `frame` out."""

from __future__ import annotations

import dataclasses
from typing import Any

from numpy.typing import NDArray

from refine_export.graph.stacked_input import stack_of, stack_signature
from refine_export.runners.base import Arrays, Runner
from refine_export.signature import TensorInfo, signature_of


def pair_runner(runner: Runner) -> Runner:
    """Return a runner that takes pairs: the same one, unless it takes stacks."""
    return runner if stack_signature(runner.inputs, runner.outputs) is None else PairRunner(runner)


class PairRunner(Runner):
    """A runner of stacks, which is closed with this."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        for name in ("backend", "version", "device", "provider"):
            setattr(self, name, getattr(runner, name))
        [self._stack] = runner.inputs
        [self._frame] = runner.outputs
        batch, self._channels, height, width = self._stack.shape
        sizes = {"N": batch, "H": height, "W": width}
        self.inputs = tuple(
            TensorInfo(
                name=spec.name,
                dtype="float32",
                shape=tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape),
            )
            for spec in signature_of("interpolator", timestep=True).inputs
        )
        self.outputs = (dataclasses.replace(self._frame, name="frame"),)

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        stack = stack_of(feeds["img0"], feeds["img1"], feeds["timestep"], int(self._channels))
        made = self._runner.run({self._stack.name: stack.astype(self._stack.dtype, copy=False)})
        return {"frame": made[self._frame.name]}

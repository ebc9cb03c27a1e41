"""The frame between two frames: by a runner on this machine, or by the ensemble of a Triton server.

with LocalInterpolator(TorchRunner(reference, "interpolator")) as interpolator:
    quarter = interpolator.interpolate(frame0, frame1, 0.25)
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from refine_export.artifacts import Artifact
from refine_export.data.colour import Picture, bytes_from_picture
from refine_export.data.images import uint8_from_frame
from refine_export.deploy.triton.names import ENSEMBLE, FRAME, FRAME0, FRAME1, TIMESTEP
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.runners.base import Runner
from refine_export.runners.triton.client import TritonClient
from refine_export.signature import MULTIPLE_OF, padded_size
from refine_export.support.text import size_text

MIDDLE = 0.5
ONLY_MIDDLE = "this network computes only the middle of two frames; one with a timestep (such as RIFE 4.0) takes any"
ONE_SIZE = re.compile(r"[Ee]xpected \[(?:-?\d+, ?)?3, ?(\d+), ?(\d+)\]")
"""Triton's message about a shape that a file of one size does not take."""


class Interpolator(ABC):
    """Computes frames between frames; a context manager, for the one thread in which it is opened and closed."""

    takes_timestep: bool
    """It computes timesteps other than 0.5."""
    provider: str
    """Description of what computes."""
    multiple_of: int = MULTIPLE_OF
    """Frames are padded to multiples of this."""
    keeps_depth: bool = True
    """It computes more than 8 bits a channel where frames have them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        """Compute the frame at `timestep` of the way from frame0 to frame1.

        Args:
            frame0: RGB [H, W, 3]: uint8, or float32 in [0, 1].
            frame1: likewise, of the same size.
            timestep: in (0, 1).

        Returns:
            A frame of the same kind.

        Raises:
            FrameError: the frames differ in size.
            RequestError: a timestep or a size that it does not compute, or an answer that is not a frame.
            UnavailableError: what computes is gone.
        """
        check_same_size(frame0.shape[:2], frame1.shape[:2])
        check_timestep(timestep, takes_timestep=self.takes_timestep)
        return self._interpolate(frame0, frame1, timestep)

    @abstractmethod
    def _interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture: ...

    @abstractmethod
    def close(self) -> None:
        """Release what computes."""


class LocalInterpolator(Interpolator):
    """A runner of an `interpolator`, closed with this.

    Args:
        runner: with inputs in FP32 or FP16.
        artifact: the file that it runs, for the sizes that it takes and its padding.
        multiple_of: the padding, where there is no file.
    """

    def __init__(self, runner: Runner, artifact: Artifact | None = None, multiple_of: int = MULTIPLE_OF) -> None:
        self.takes_timestep = "timestep" in {info.name for info in runner.inputs}
        self.provider = f"{runner.backend} {runner.version}, {runner.provider}, on {runner.device}"
        self._runner = runner
        self._artifact = artifact
        self.multiple_of = multiple_of if artifact is None else artifact.multiple_of

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()

    def _interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        height, width = frame0.shape[:2]
        fed = padded_size(height, width, self.multiple_of)
        if self._artifact is not None and not self._artifact.accepts((1, *fed)):
            raise RequestError(
                f"frames of {height}x{width} (height x width) are fed as one pair of {size_text(fed)}, and "
                f"{self._artifact.file} takes {self._artifact.sizes}; make a file for this size, or a dynamic one",
                code="size-not-taken",
                file=self._artifact.file,
                size=fed,
            )
        padding = ((0, 0), (0, 0), (0, fed[0] - height), (0, fed[1] - width))
        given: dict[str, NDArray[Any]] = {}
        for name, picture in (("img0", frame0), ("img1", frame1)):
            image = np.moveaxis(picture, -1, 0)[None].astype(np.float32)
            if picture.dtype == np.uint8:
                image /= np.float32(255)
            given[name] = np.pad(image, padding, mode="edge")
        if self.takes_timestep:
            given["timestep"] = np.full((1, 1, 1, 1), timestep, np.float32)
        feeds = {info.name: np.ascontiguousarray(given[info.name], info.dtype) for info in self._runner.inputs}
        frame = self._runner.run(feeds)["frame"]
        named = self.provider if self._artifact is None else f"{self._artifact.file} ({self.provider})"
        if frame.shape != given["img0"].shape:
            raise RequestError(
                f"{named} returns {list(frame.shape)} for frames of {list(given['img0'].shape)}; expected the same: "
                "export the network again, and check it with `refine-export validate`",
                code="not-a-frame",
            )
        frame = frame[:, :, :height, :width]
        if not np.isfinite(frame).all():  # only what is shown: padding may be anything
            raise RequestError(
                f"{named} returns values that are NaN or infinite; expected 0 to 1: it overflows, as FP16 may, or its "
                "weights are damaged; take a file in FP32, and check it with `refine-export validate`",
                code="frame-not-finite",
            )
        if frame0.dtype != np.uint8:
            return np.asarray(np.moveaxis(frame[0], 0, -1), np.float32).clip(0, 1)
        return uint8_from_frame(frame)


class ServedInterpolator(Interpolator):
    """The ensemble `interpolate` of a Triton server; the client is closed with this.

    Raises:
        RequestError: the server does not have it.
        UnavailableError: the server stayed away.
    """

    keeps_depth = False

    def __init__(self, client: TritonClient) -> None:
        self._client = client
        model = client.metadata(ENSEMBLE)
        self.takes_timestep = TIMESTEP in {tensor.name for tensor in model.inputs}
        self.provider = f"{client.server()} at {client.options.url}"

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def _interpolate(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        if frame0.dtype != np.uint8:
            rounded = self._interpolate(bytes_from_picture(frame0), bytes_from_picture(frame1), timestep)
            return rounded.astype(np.float32) / np.float32(255)
        given: dict[str, NDArray[Any]] = {FRAME0: frame0, FRAME1: frame1}  # the server pads, scales, crops and rounds
        if self.takes_timestep:
            given[TIMESTEP] = np.array([timestep], np.float32)
        try:
            answer = self._client.infer(ENSEMBLE, given, [FRAME])[FRAME]
        except RequestError as error:
            if (size := ONE_SIZE.search(str(error))) is None:
                raise
            own = size_text(frame0.shape[:2])
            raise RequestError(
                f"{error}; the server's file is for pictures that pad to {size[1]}x{size[2]} (height x width), and "
                f"these are {own}: deploy a file for this size, or a dynamic one",
                code="size-not-taken",
                size=own,
            ) from error
        if answer.dtype != np.uint8 or answer.shape != frame0.shape:  # Triton's Python backend checks no outputs
            raise UnavailableError(
                f"the server at {self._client.options.url} returns {answer.dtype} {list(answer.shape)} for frames "
                f"of {list(frame0.shape)}; expected uint8 of that shape: look at the repository that it serves with "
                "`refine-export deploy check`",
                code="not-a-frame",
            )
        return answer


def frames_at(
    interpolator: Interpolator, frame0: Picture, frame1: Picture, timesteps: Sequence[Fraction]
) -> list[Picture]:
    """Compute frames between two, in order.

    Where only the middle can be computed, intervals are halved again and again, as upstream's `make_inference` does;
    the frames in between are rounded on the way.

    Args:
        interpolator: computes one frame at a time.
        frame0: as `Interpolator.interpolate` takes it.
        frame1: likewise.
        timesteps: in (0, 1).

    Raises:
        RequestError: a timestep that halving cannot reach; and as `Interpolator.interpolate`.
    """
    if interpolator.takes_timestep:
        return [interpolator.interpolate(frame0, frame1, float(timestep)) for timestep in timesteps]
    found = {Fraction(0): frame0, Fraction(1): frame1}

    def halved(timestep: Fraction) -> Picture:
        if timestep not in found:
            step = Fraction(1, timestep.denominator)
            found[timestep] = interpolator.interpolate(halved(timestep - step), halved(timestep + step), MIDDLE)
        return found[timestep]

    for timestep in timesteps:
        check_parts(Fraction(timestep.denominator), takes_timestep=False)
    return [halved(timestep) for timestep in timesteps]


def check_parts(parts: Fraction, *, takes_timestep: bool) -> None:
    """Refuse to divide an interval into parts that are not 2, 4, 8, ... where only the middle can be computed."""
    if not takes_timestep and (parts.denominator != 1 or parts.numerator & (parts.numerator - 1)):
        message = f"{float(parts):.4g} frames for one of the video are asked for; expected 2, 4, 8, ...: {ONLY_MIDDLE}"
        raise RequestError(message, code="only-the-middle", parts=parts)


def check_timestep(timestep: float, *, takes_timestep: bool) -> None:
    """Refuse a timestep that is not in (0, 1), or not 0.5 where only the middle can be computed."""
    if not 0 < timestep < 1:
        message = f"timestep is {timestep:g}; expected a number between 0 and 1, such as 0.25"
        raise RequestError(message, code="wrong-option", option="timestep")
    if not takes_timestep and timestep != MIDDLE:
        raise RequestError(f"timestep is {timestep:g}; expected 0.5: {ONLY_MIDDLE}", code="only-the-middle")


def check_same_size(size0: tuple[int, ...], size1: tuple[int, ...]) -> None:
    """Refuse two frames of different sizes (height, width)."""
    if size0 != size1:
        sizes = " and ".join(f"{width}x{height}" for height, width in (size0, size1))
        message = f"the two frames differ in size: {sizes}; give two frames of one video"
        raise FrameError(message, code="frame-sizes-differ")

"""The frame between two frames: by a runner on this machine, or by the ensemble of a Triton server.

    with LocalInterpolator(TorchRunner(reference, "interpolator_m")) as interpolator:
        quarter = interpolator.between(frame0, frame1, 0.25)

Pictures are uint8 RGB [H, W, 3].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from refine_export.artifacts import Artifact
from refine_export.data.images import FramePair, cropped, padded, padded_size, uint8_from_frame
from refine_export.deploy.triton.names import ENSEMBLE, FRAME, FRAME0, FRAME1, TIMESTEP
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.runners.base import Runner
from refine_export.runners.triton.client import TritonClient
from refine_export.support.text import size_text
from refine_export.validate.test_plan import accepts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

MIDDLE = 0.5
ONE_SIZE = re.compile(r"[Ee]xpected \[(?:-?\d+, ?)?3, ?(\d+), ?(\d+)\]")
"""Triton's words for a shape that a file of one size does not take."""


class Interpolator(Protocol):
    """What gives frames between frames; for one thread, in which it is opened, used and closed."""

    any_time: bool
    """Whether timesteps other than 0.5 can be had."""
    provider: str
    """What computes, in words."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def between(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        """The frame at `timestep` of the way from frame0 to frame1.

        Raises:
            RequestError: a timestep that can't be had, or frames that differ in size or are no pictures.
            UnavailableError: what computes is gone.
        """
        ...


class LocalInterpolator:
    """A runner of `interpolator` or `interpolator_m`, closed with this.

    Args:
        runner: with inputs in FP32 or FP16.
        artifact: the file that it runs, for the sizes that it takes.

    Raises:
        RequestError: a runner of another graph, or of other types.
    """

    def __init__(self, runner: Runner, artifact: Artifact | None = None) -> None:
        names = {info.name for info in runner.inputs}
        if names - {"timestep"} != {"img0", "img1"}:
            raise RequestError(
                f"the inputs are {', '.join(sorted(names))}: no graph that makes frames; expected interpolator or "
                "interpolator_m"
            )
        if other := {info.dtype for info in runner.inputs} - {"float32", "float16"}:
            raise RequestError(f"the inputs are {', '.join(sorted(other))}; expected float32 or float16")
        self.any_time = "timestep" in names
        self.provider = f"{runner.backend} {runner.version}, {runner.provider}, on {runner.device}"
        self._runner = runner
        self._artifact = artifact

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def between(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        """As `Interpolator.between`: /255, padded, run, cropped, rounded.

        Raises:
            RequestError: also where the answer has another size, or values that are not finite.
        """
        import numpy as np

        check_pair(frame0, frame1)
        check_timestep(timestep, any_time=self.any_time)
        size = (frame0.shape[0], frame0.shape[1])
        if self._artifact is not None and not accepts(self._artifact, (1, *padded_size(*size))):
            wanted = size_text(padded_size(*size))
            raise RequestError(
                f"frames of {size[0]}x{size[1]} (height x width) are fed as one pair of {wanted}, and "
                f"{self._artifact.file} takes {self._artifact.sizes}; make a file for this size, or a dynamic one"
            )
        pair = padded(FramePair("frames", _image(frame0), _image(frame1)))
        given: dict[str, NDArray[Any]] = {"img0": pair.img0, "img1": pair.img1}
        if self.any_time:
            given["timestep"] = np.full((1, 1, 1, 1), timestep, np.float32)
        feeds = {info.name: np.ascontiguousarray(given[info.name], info.dtype) for info in self._runner.inputs}
        frame = self._runner.run(feeds)["frame"]
        if frame.shape != pair.img0.shape:
            raise RequestError(
                f"{self._named()} answers with {list(frame.shape)} to frames of {list(pair.img0.shape)}; expected "
                "the same: export the network anew, and check it with `refine-export validate`"
            )
        frame = cropped(frame, size)
        if not np.isfinite(frame).all():
            raise RequestError(
                f"{self._named()} answers with values that are NaN or infinite; expected 0 to 1: it overflows, as FP16 "
                "may, or its weights are damaged; take a file in FP32, and check it with `refine-export validate`"
            )
        return uint8_from_frame(frame)

    def _named(self) -> str:
        return self.provider if self._artifact is None else f"{self._artifact.file} ({self.provider})"


class ServedInterpolator:
    """The ensemble `interpolate` of a Triton server; the client is closed with this.

    Raises:
        RequestError: the server does not have it.
        UnavailableError: the server stayed away.
    """

    def __init__(self, client: TritonClient) -> None:
        self._client = client
        model = client.metadata(ENSEMBLE)
        self.any_time = TIMESTEP in {tensor.name for tensor in model.inputs}
        self.provider = f"{client.server()} at {client.options.url}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def between(self, frame0: Picture, frame1: Picture, timestep: float) -> Picture:
        """As `Interpolator.between`; the server pads, scales, crops and rounds."""
        import numpy as np

        check_pair(frame0, frame1)
        check_timestep(timestep, any_time=self.any_time)
        given: dict[str, NDArray[Any]] = {FRAME0: frame0, FRAME1: frame1}
        if self.any_time:
            given[TIMESTEP] = np.array([timestep], np.float32)
        try:
            answer = self._client.infer(ENSEMBLE, given, [FRAME])[FRAME]
        except RequestError as error:
            if (size := ONE_SIZE.search(str(error))) is None:
                raise
            own = size_text(padded_size(frame0.shape[0], frame0.shape[1]))
            raise RequestError(
                f"{error}; the server's file is for pictures that pad to {size[1]}x{size[2]} (height x width), and "
                f"these pad to {own}: deploy a file for this size, or a dynamic one"
            ) from error
        if answer.dtype != np.uint8 or answer.shape != frame0.shape:  # the python backend checks no outputs
            raise UnavailableError(
                f"the server at {self._client.options.url} answers with {answer.dtype} {list(answer.shape)} to frames "
                f"of {list(frame0.shape)}; expected uint8 of that shape: look at the repository that it serves with "
                "`refine-export deploy check`"
            )
        return answer


def frames_between(interpolator: Interpolator, frame0: Picture, frame1: Picture, times: int) -> list[Picture]:
    """The `times` - 1 frames that divide the way from frame0 to frame1 into equal parts.

    Where only the middle can be had, the parts are halved again and again, as upstream's `make_inference` does; the
    frames in between are rounded to uint8 on the way.

    Raises:
        RequestError: as `check_times`, and as `Interpolator.between`.
    """
    check_times(times, any_time=interpolator.any_time)
    if interpolator.any_time:
        return [interpolator.between(frame0, frame1, part / times) for part in range(1, times)]
    if times == 1:
        return []
    middle = interpolator.between(frame0, frame1, MIDDLE)
    before = frames_between(interpolator, frame0, middle, times // 2)
    return [*before, middle, *frames_between(interpolator, middle, frame1, times // 2)]


def check_times(times: int, *, any_time: bool) -> None:
    """Refuse a number of parts that can't be had.

    Raises:
        RequestError: it is no power of two, and only the middle of two frames can be had.
    """
    if not any_time and times & (times - 1):
        raise RequestError(
            f"--times is {times}; the graph interpolator gives the middle of two frames alone, and so 2, 4, 8, ...: "
            "choose one of these, or use interpolator_m (weights of IFNet_m)"
        )


def check_timestep(timestep: float, *, any_time: bool) -> None:
    """Refuse a time that can't be had.

    Raises:
        RequestError: it is not in (0, 1), or not 0.5 where only the middle can be had.
    """
    if not 0 < timestep < 1:
        raise RequestError(f"--timestep is {timestep:g}; expected a number between 0 and 1, such as 0.25")
    if not any_time and timestep != MIDDLE:
        raise RequestError(
            f"--timestep is {timestep:g}; the graph interpolator gives the middle of two frames, 0.5, alone: use "
            "interpolator_m (weights of IFNet_m)"
        )


def check_pair(frame0: Picture, frame1: Picture) -> None:
    """Refuse what are not two pictures of one size.

    Raises:
        FrameError: their sizes differ, or they are not uint8 [H, W, 3].
    """
    for frame in (frame0, frame1):
        if frame.ndim != 3 or frame.shape[2] != 3 or str(frame.dtype) != "uint8" or 0 in frame.shape:
            raise FrameError(f"a frame is {frame.dtype} {_listed(frame.shape)}; expected uint8 [H, W, 3], RGB")
    if frame0.shape != frame1.shape:
        sizes = " and ".join(f"{frame.shape[1]}x{frame.shape[0]}" for frame in (frame0, frame1))
        raise FrameError(f"the two frames differ in size: {sizes}; give two frames of one video")


def _image(picture: Picture) -> NDArray[np.float32]:
    import numpy as np

    return np.moveaxis(picture, -1, 0)[None].astype(np.float32) / np.float32(255)


def _listed(shape: Sequence[int]) -> str:
    return str(list(shape))

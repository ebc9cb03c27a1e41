"""`interpolate_frames`: frames in memory at another rate, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from refine_export.data.colour import Picture
from refine_export.errors import FrameError, RequestError
from refine_export.interpolation.backends import Backend
from refine_export.interpolation.interpolation_options import LEAST_FPS, MOST_FPS, ComputeOptions, VideoOptions
from refine_export.interpolation.interpolator import check_parts, frames_at
from refine_export.interpolation.rates import Grid, check_rate, named_rate
from refine_export.interpolation.scene_cuts import similarity
from refine_export.jobs.interpolate_frames import compute_options
from refine_export.jobs.job_options import options_from_keywords, takes_options
from refine_export.jobs.load_inputs import AnyPath
from refine_export.runners.triton.connection_options import ServerOptions

T = TypeVar("T")
OVERSHOOT = 0.5
"""Distance by which floats may leave the range from 0 to 1, as those of a resized frame do; other floats have another
scale."""


@takes_options(ComputeOptions)
def interpolate_frames(
    frames: Iterable[T],
    fps_in: float | Fraction,
    fps_out: float | Fraction,
    *,
    checkpoint: AnyPath | None = None,
    file: AnyPath | None = None,
    server: str | ServerOptions | None = None,
    scene_cut: float | None = 0.2,
    **options: Any,
) -> Iterator[T]:
    """Put frames between those of an iterable, so that they have another rate.

    Two frames are held at a time. Frames at their own times are given back as they are; the last one is held until its
    end: N frames become N * fps_out / fps_in.

    Args:
        frames: arrays or tensors of one size, [H, W, 3] or [3, H, W]: RGB in uint8, or in floats from 0 to 1.
        fps_in: their frames a second, 0.01 to 1000; 23.976 is 24000/1001.
        fps_out: the frames a second that are wanted.
        checkpoint: weights for torch; what computes is chosen as in `interpolate`.
        file: an ONNX file or an engine that makes frames.
        server: HOST:PORT of a Triton server, or its options.
        scene_cut: similarity under which two frames are of different scenes, and the first is repeated; None: do not
            look for cuts.
        options: `scale`, `refine`, `tile`, `device`, `runtime` and those of `EngineRunOptions`.

    Returns:
        An iterator over frames of the same kind, on the same device.

    Raises:
        RequestError: options that do not go together, or a rate below that of the frames.
        FrameError: frames that differ in size or are not RGB; when it comes to them.
        UnavailableError: a package, a device or the server is missing.
    """
    for name, fps in (("fps_in", fps_in), ("fps_out", fps_out)):
        if not LEAST_FPS <= fps <= MOST_FPS:  # NaN is neither
            message = f"{name} is {str(fps)[:20]}; expected {LEAST_FPS} to {MOST_FPS} frames a second"
            raise RequestError(message, code="wrong-option", option=name)
    if scene_cut is not None:
        options_from_keywords(VideoOptions, {"scene_cut": scene_cut})
    rate, target = (fps if isinstance(fps, Fraction) else named_rate(float(fps)) for fps in (fps_in, fps_out))
    check_rate(target, rate)
    if "concurrency" in options:
        message = "concurrency is for a video; here one pair is computed at a time: leave it out"
        raise RequestError(message, code="options-do-not-fit")
    backend = Backend(compute_options(options, checkpoint, file, server))
    grid = Grid(source=1 / rate, source_rate=rate, first=0, target=target)
    return _interpolated(iter(frames), grid, backend, scene_cut)


def _interpolated(frames: Iterator[T], grid: Grid, backend: Backend, scene_cut: float | None) -> Iterator[T]:
    before = next(frames, None)
    if before is None:
        return
    picture, like = _picture_of(before)
    with backend.open() as interpolator:
        check_parts(grid.parts, takes_timestep=interpolator.takes_timestep)
        number = 0
        for number, after in enumerate(frames, 1):
            following, like_following = _picture_of(after)
            shots = list(grid.between(number - 1, number))
            wanted = [shot.timestep for shot in shots if shot.timestep]
            is_cut = scene_cut is not None and wanted and similarity(picture, following) < scene_cut
            made = iter([] if is_cut else frames_at(interpolator, picture, following, wanted))
            for shot in shots:
                yield before if is_cut or not shot.timestep else like(next(made))
            before, picture, like = after, following, like_following
        for _ in grid.behind(number, number + 1):
            yield before


def _picture_of(frame: Any) -> tuple[Picture, Callable[[Picture], Any]]:
    """Return a frame as [H, W, 3], and what turns such a one back into its kind."""
    array: Any
    if hasattr(frame, "detach"):
        tensor = frame.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
    else:
        array = np.asarray(frame, None if hasattr(frame, "dtype") else object)  # of lists any shape
    channels = next((axis for axis in (-1, -3) if array.ndim == 3 and array.shape[axis] == 3), None)
    if channels is None or array.dtype not in (np.uint8, np.float16, np.float32, np.float64) or not array.size:
        raise _not_a_frame(f"{array.dtype} {list(array.shape)}")
    picture = np.ascontiguousarray(np.moveaxis(array, channels, -1))
    if picture.dtype != np.uint8:
        low, high = float(picture.min()), float(picture.max())
        if not -OVERSHOOT <= low <= high <= 1 + OVERSHOOT:  # NaN is neither
            raise _not_a_frame(f"{array.dtype} from {low:g} to {high:g}")
        picture = picture.astype(np.float32).clip(0, 1)

    def like(made: Picture) -> Any:
        result = np.ascontiguousarray(np.moveaxis(made, -1, channels)).astype(array.dtype)
        if not hasattr(frame, "detach"):
            return result
        import torch  # a frame is a tensor of it

        return torch.from_numpy(result).to(frame)

    return picture, like


def _not_a_frame(found: str) -> FrameError:
    expected = "expected an array or tensor [H, W, 3] or [3, H, W], uint8 or floats from 0 to 1"
    return FrameError(f"a frame is {found}; {expected}", code="not-a-frame")

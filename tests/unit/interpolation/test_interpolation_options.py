"""Options of interpolation: what contradicts itself is refused by the name of an option."""

import pytest

from refine_export.interpolation.interpolation_options import ComputeOptions, VideoOptions
from refine_export.runners.triton.connection_options import ServerOptions

SERVER = ServerOptions(url="host:1")


@pytest.mark.parametrize(
    ("owner", "options", "option"),
    [
        (VideoOptions, {"times": 1}, "times"),
        (VideoOptions, {"scene_cut": 1.5}, "scene_cut"),
        (ComputeOptions, {"file": "a.onnx", "server": SERVER}, "file"),
        (ComputeOptions, {"runtime": "half"}, "runtime"),
        (ComputeOptions, {"device": "cuda:0", "server": SERVER}, "device"),
        (ComputeOptions, {"concurrency": 0}, "concurrency"),
    ],
)
def test_wrong_options_are_named(owner, options, option):
    with pytest.raises(ValueError, match=f"^{option} "):
        owner(**options)

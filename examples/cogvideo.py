"""Replace the RIFE model of CogVideo's demo by this package's, then by an ONNX file or an engine.

    python examples/cogvideo.py flownet.pkl a.png b.png [interpolator.onnx | interpolator.rtx]

The demo loads `model_rife/flownet.pkl` (HDv3) with upstream's `Model` and calls `model.inference(img0, img1)`: frames
[N, 3, H, W] in [0, 1] on any device, padded by the caller. Both classes below do the same, so that one line of the demo
changes. Without a fourth argument an ONNX file is exported to be used.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import refine_export as rx
from refine_export.engine.engine_runner import TrtRunner
from refine_export.runners.onnxruntime import OrtRunner


class TorchModel:
    """The checkpoint in torch: the same frames as upstream's `Model` gives."""

    def __init__(self, checkpoint: str, device: str = "cpu") -> None:
        self.network = rx.load_network(checkpoint).to(device)

    @torch.inference_mode()
    def inference(self, img0: torch.Tensor, img1: torch.Tensor) -> torch.Tensor:
        """Make the frame between two."""
        return self.network(img0, img1)


class FileModel:
    """An ONNX file, or an engine on a GPU; of any network, at its middle frame."""

    def __init__(self, path: Path) -> None:
        self.runner = OrtRunner(path) if path.suffix == ".onnx" else TrtRunner(path)

    def inference(self, img0: torch.Tensor, img1: torch.Tensor) -> torch.Tensor:
        """Make the frame between two, on the device of the first."""
        feeds = {"img0": img0.cpu().numpy(), "img1": img1.cpu().numpy(), "timestep": np.full((1, 1, 1, 1), 0.5, "f")}
        outputs = self.runner.run({one.name: feeds[one.name].astype(one.dtype) for one in self.runner.inputs})
        return torch.from_numpy(outputs["frame"]).to(img0)


def tensor(path: str) -> torch.Tensor:
    """Read a picture as [1, 3, H, W] in [0, 1]."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


checkpoint, first, second, *file = sys.argv[1:]
img0, img1 = tensor(first), tensor(second)
model = TorchModel(checkpoint)
expected = model.inference(img0, img1)
with tempfile.TemporaryDirectory() as folder:
    path = (
        Path(file[0]) if file else rx.export(checkpoint, "interpolator", output=Path(folder) / "interpolator.onnx").path
    )
    frame = FileModel(path).inference(img0, img1)
# CogVideo gives a video as a list of tensors [3, H, W]: 8 frames a second become 16.
video = list(rx.interpolate_frames([img0[0], img1[0]], fps_in=8, fps_out=16, checkpoint=checkpoint))
print(f"{len(video)} frames of {list(video[0].shape)}")
print(f"largest difference from torch: {(frame - expected).abs().max():.2g}")

"""Replace a torch network by its ONNX file: tensors in, tensors out.

    python examples/torch_to_onnx.py flownet.pkl a.png b.png

The first half is what programs do that load `flownet.pkl` with upstream's classes, such as CogVideo's demo (an HDv3
file: `model.inference(img0, img1)`); the second half computes the same frame with the exported file.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

import refine_export as rx

checkpoint, first, second = sys.argv[1:4]


def tensor(path: str) -> torch.Tensor:
    """Read a picture as [1, 3, H, W] in [0, 1]."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


img0, img1 = tensor(first), tensor(second)

network = rx.load_network(checkpoint)
with torch.inference_mode():
    expected = network(img0, img1)

graph = "interpolator_m" if network.takes_timestep else "interpolator"
with tempfile.TemporaryDirectory() as folder:
    onnx = rx.export(checkpoint, graph, output=Path(folder) / "interpolator.onnx")
    session = onnxruntime.InferenceSession(onnx.path, providers=["CPUExecutionProvider"])
    feeds = {"img0": img0.numpy(), "img1": img1.numpy()}
    if network.takes_timestep:
        feeds["timestep"] = np.full((1, 1, 1, 1), 0.5, np.float32)
    (frame,) = session.run(["frame"], feeds)

print(f"largest difference: {np.abs(frame - expected.numpy()).max():.2g}")

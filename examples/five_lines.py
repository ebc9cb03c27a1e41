"""Export, lower and validate a network from Python.

    python examples/five_lines.py flownet.pkl a.png b.png [folder]

Without arguments, released RIFE 4.0 and two real frames are used.
"""

import sys
from pathlib import Path

import refine_export as rx

checkpoint, frames = (sys.argv[1], tuple(sys.argv[2:4])) if len(sys.argv) > 3 else (None, None)
folder = Path(sys.argv[4] if len(sys.argv) > 4 else "five-lines-output")

onnx = rx.export(checkpoint, "interpolator", output=folder / "interpolator.onnx")
fp16 = rx.lower(onnx, output=folder / "interpolator.fp16.onnx", checkpoint=checkpoint, frames=frames, force=True)
report = rx.validate([onnx, fp16], checkpoint=checkpoint, frames=frames, sizes=(), report=folder)
assert report.passed, report.summary()
print(report.summary())

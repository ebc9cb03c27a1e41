"""Files that take both frames in one input, as another tool would write them."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.parser import parse_model


def stacked_file(path: Path, channels: int, size: str = "H, W") -> Path:
    """Write a file that gives frame 0 + timestep * (frame 1 - frame 0)."""
    rest = channels - 7
    parts, names = ("{3, 3, 1}", "a, b, t") if not rest else (f"{{3, 3, 1, {rest}}}", "a, b, t, rest")
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    net (float[1, {channels}, {size}] source) => (float[1, 3, {size}] made)
    <int64[{3 + bool(rest)}] parts = {parts}>
    {{
        {names} = Split <axis = 1> (source, parts)
        d = Sub (b, a)
        m = Mul (d, t)
        made = Add (a, m)
    }}"""
    onnx.save(parse_model(text), path)
    return path

"""Read a video with PyAV, raise its rate, and write it again, frame by frame.

    python examples/video_pyav.py in.mp4 out.mp4 60 [flownet.pkl | interpolator.onnx]

`refine-export interpolate` does the same and keeps colours, sound and times; this is for programs with a pipeline of
their own.
"""

import sys
from fractions import Fraction

import av

import refine_export as rx

source, output, fps, *given = sys.argv[1:]
what = {"file" if given[0].endswith(".onnx") else "checkpoint": given[0]} if given else {}
with av.open(source) as read, av.open(output, "w") as written:
    video = read.streams.video[0]
    stream = written.add_stream("libx264", rate=Fraction(fps), width=video.width, height=video.height)
    frames = (frame.to_ndarray(format="rgb24") for frame in read.decode(video))
    count = 0
    for picture in rx.interpolate_frames(frames, video.average_rate, Fraction(fps), **what):
        written.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        count += 1
    written.mux(stream.encode(None))
print(f"{count} frames")

"""Read a video with OpenCV, raise its rate, and write it again, frame by frame.

    python examples/video_opencv.py in.mp4 out.mp4 60 [flownet.pkl | interpolator.onnx]

OpenCV has BGR: the frames are turned to RGB for the network, and back.
"""

import sys

import cv2

import refine_export as rx


def frames_of(video):
    """Read frames in RGB until there are none."""
    while True:
        found, frame = video.read()
        if not found:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


source, output, fps, *given = sys.argv[1:]
what = {"file" if given[0].endswith(".onnx") else "checkpoint": given[0]} if given else {}
video = cv2.VideoCapture(source)
size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
writer = cv2.VideoWriter(output, cv2.VideoWriter_fourcc(*"mp4v"), float(fps), size)
count = 0
for frame in rx.interpolate_frames(frames_of(video), video.get(cv2.CAP_PROP_FPS), float(fps), **what):
    writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    count += 1
writer.release()
print(f"{count} frames")

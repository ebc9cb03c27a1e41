"""Long reports for the tests of the page, without a run."""

import dataclasses

from refine_export.report.pictures import FramePictures, Pictures
from refine_export.validate.comparison import overall
from refine_export.validate.validate_options import ValidateOptions
from tests.support.gate_reports import LIMITS, artifact, comparison, groups_of, metrics, report_of

FRAMES = FramePictures(img0="data:,0", img1="data:,1", middle=None, interpolated=None, interpolated_caption="")
SIZES = ((96, 160), (256, 448), (544, 960), (1088, 1920), (2176, 3840))
BAD_FILES = ("refine-3.onnx", "refine-8.fp16.onnx")


def long_report(files=10, feeds=10, *, allow=False):
    """Of `files` files in two runtimes at five sizes on `feeds` frames of a sequence; two files fail on some feeds,
    FP16 ones have no CUDA. With `allow`, one feed in two may fail.
    """
    made = []
    for number in range(files):
        precision = "fp16" if number % 2 == 0 else "fp32"
        made.append(artifact(f"refine-{number}{'.fp16' if precision == 'fp16' else ''}.onnx", precision))
    rows = []
    for number, one in enumerate(made):
        limits = dataclasses.replace(LIMITS[one.precision], flicker=0.01)
        for runtime in ("onnxruntime-cpu", "onnxruntime-cuda"):
            for at, size in enumerate(SIZES):
                for feed in range(feeds):
                    error = LIMITS[one.precision].max_abs * (0.1 + 0.05 * number + 0.01 * feed)
                    psnr = LIMITS[one.precision].psnr_db + 12 - number - 1.5 * at - 0.1 * feed
                    bad = one.file in BAD_FILES and runtime == "onnxruntime-cpu" and at == 3 and feed % 3 == 1
                    missing = "no CUDA here" if runtime == "onnxruntime-cuda" and one.precision == "fp16" else None
                    found = metrics(
                        psnr - 30 * bad,
                        error * (20 + feed if bad else 1),
                        flicker=None if feed == 0 else 0.0003 * (1 + feed % 3) * (1 + number),
                        histogram=(100, 2000, 40000, 90000, 50000, 7000, 400, 20, 3 * bad),
                    )
                    row = comparison(
                        one,
                        f"clip.mp4 frames {feed}-{feed + 1}, network",
                        found,
                        runtime=runtime,
                        missing=missing,
                        size=size,
                        limits=limits,
                    )
                    sequence = f"refine {size[0]}x{size[1]}, clip.mp4, network flow"
                    rows.append(dataclasses.replace(row, sequence=sequence, index=feed))
    rows = [dataclasses.replace(row, key=f"{number}. {row.key}") for number, row in enumerate(rows, 1)]
    options = ValidateOptions(share=0.5) if allow else ValidateOptions()
    report = report_of(rows, artifacts=made)
    groups = groups_of(rows, options)
    return dataclasses.replace(report, groups=groups, status=overall(group.status for group in groups))


def pictures_of(report, picture="data:,1"):
    """Of all failed comparisons and the first of each group."""
    first = {(one.file, one.verdict.runtime, one.size): one.key for one in reversed(report.comparisons)}
    keys = {*first.values(), *(one.key for one in report.comparisons if one.verdict.status == "failed")}
    shown = Pictures(
        reference=picture,
        candidate=picture,
        difference=picture,
        difference_scale=200.0,
        worst_reference="data:,1",
        worst_candidate="data:,1",
        worst_difference="data:,1",
        worst_at=(0.25, 0.75),
        caption="residual",
    )
    with_outputs = {one.key for one in report.comparisons if one.verdict.outputs}
    return dict.fromkeys(keys & with_outputs, shown)


def layer(number, own=1e-7, allowed=1e-6):
    return {
        "tensor": f"t{number}",
        "node": f"/block0/conv{number}/Conv",
        "operator": "Conv",
        "type": "float16",
        "shape": [1, 32, 8, 8],
        "matched_by": "name",
        "peak": 2.0,
        "before": 1e-6 * number,
        "after": 1e-6 * number + own,
        "own": own,
        "allowed": allowed,
        "feed": "refine 64x64, subpixel flow",
    }


def bisected(layers=200, bad=120):
    """What `Bisected.to_dict` gives, of a file whose node `bad` makes an error."""
    all_of_them = [layer(number, 0.3 if number == bad else 1e-7) for number in range(1, layers + 1)]
    jumps = [
        {"layer": one, "candidate": [one["node"]], "reasons": ["<mode> is nearest, in the reference linear"]}
        for one in all_of_them
        if one["own"] > one["allowed"]
    ]
    return {
        "reference": "refine.onnx",
        "candidate": "bad.fp16.onnx",
        "first": jumps[0] if jumps else None,
        "jumps": jumps,
        "layers": all_of_them,
        "outputs": all_of_them[-1:],
        "not_compared": 3,
        "feeds": ["refine 64x64, subpixel flow"],
        "reference_error": None,
    }

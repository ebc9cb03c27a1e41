"""Reports for the tests of the gate, without a run."""

import dataclasses

from refine_export.accuracy.limits import Limits
from refine_export.accuracy.metrics import Metrics, Rounding, Worst
from refine_export.artifacts import Artifact
from refine_export.report.grouping import judge_groups
from refine_export.report.report_data import Comparison, Report, Shortfall
from refine_export.validate.comparison import Verdict, overall, verdict_from_metrics
from refine_export.validate.validate_options import ValidateOptions

LIMITS = {"fp32": Limits(max_abs=1e-4, psnr_db=90.0), "fp16": Limits(max_abs=0.05, psnr_db=58.0)}
FEEDS = ("network", "subpixel", "large", "outside")
STRICT = ValidateOptions()


def metrics(psnr_db=70.0, max_abs=0.004, **more):
    """Of one output; a PSNR of None says that it is identical."""
    same = psnr_db is None
    root = 0.0 if same else more.get("peak", 1.0) * 10 ** (-psnr_db / 20)
    given = {
        "peak": 1.0,
        "psnr_db": psnr_db,
        "identical": same,
        "max_abs": 0.0 if same else max_abs,
        "mean_abs": 0.0 if same else root * (root / max_abs) ** 0.5,
        "p999_abs": 0.0 if same else max_abs / 3,
        "nan_count": 0,
        "inf_count": 0,
        "worst": Worst(batch=0, channel=1, y=2, x=3, reference=0.25, candidate=0.254),
        "histogram": (0, 0, 1, 2, 3, 4, 0, 0, 0),
        "rounding": Rounding(max_of_peak=0.004, psnr_db=70.0, feed="network"),
    }
    return Metrics(**{**given, **more})


def not_finite():
    return dataclasses.replace(
        metrics(),
        psnr_db=None,
        max_abs=None,
        mean_abs=None,
        p999_abs=None,
        nan_count=7,
        worst=Worst(batch=0, channel=0, y=0, x=0, reference=0.5, candidate=None),
    )


def artifact(file="refine.fp16.onnx", precision="fp16", graph="refine"):
    return Artifact(
        graph=graph,
        file=file,
        sha256="a" * 64,
        size_bytes=1000,
        sizes="1x3x64x64",
        opset=18,
        precision=precision,
        nodes=100,
        reused=False,
        seconds=1.5,
        checkpoint_sha256="c" * 64,
        checkpoint="flownet.pkl",
        fixed=(1, 64, 64),
    )


def comparison(made, feed, measured, *, runtime=None, missing=None, refused=None, size=(64, 64), limits=None):
    """One file on one feed; `missing` or `refused` say why nothing was measured."""
    limits = limits or LIMITS[made.precision]
    runtime = runtime or ("onnxruntime-cpu" if made.precision == "fp32" else "half")
    outputs = () if missing or refused else (verdict_from_metrics("residual", measured, limits),)
    reasons = tuple(reason for output in outputs for reason in output.reasons)
    status = "not compared" if missing else "failed" if refused else overall(output.status for output in outputs)
    feed = f"refine {size[0]}x{size[1]}, {feed} flow"
    verdict = Verdict(
        feed=feed,
        runtime=runtime,
        status=status,
        limits=limits,
        reasons=tuple(filter(None, (missing, refused, *reasons))),
        outputs=outputs,
        reference_seconds=0.5,
        candidate_seconds=0.25,
    )
    return Comparison(
        key=f"{made.file}: {feed}, {runtime}",
        graph=made.graph,
        file=made.file,
        size=size,
        batch=1,
        provider="CPU 1.31",
        largest_flow_px=3.5,
        verdict=verdict,
    )


def groups_of(comparisons, options=STRICT):
    return tuple(judged.group for judged in judge_groups(comparisons, options))


def report_of(comparisons=None, *, artifacts=(), shortfalls=(), options=STRICT, **more):
    """A report of one FP16 file that passes on four feeds, or of what is given."""
    artifacts = artifacts or (artifact(),)
    if comparisons is None:
        comparisons = [comparison(artifacts[0], feed, metrics()) for feed in FEEDS]
    groups = groups_of(comparisons, options)
    counted = [one.status for one in shortfalls if one.counts]
    given = {
        "status": overall([*(group.status for group in groups), *counted]),
        "tool_version": "0.1.0",
        "created": "2026-01-02T03:04:05+00:00",
        "seconds": 12.5,
        "pair": {"name": "a.png and b.png", "size": [64, 64], "sha256": ["1" * 64, "2" * 64]},
        "checkpoint": {"source": "flownet.pkl", "sha256": "c" * 64, "architecture": "IFNet"},
        "reference": "torch 2.13.0, float32, cpu",
        "thresholds": {f"{one.graph}_{one.precision}": dataclasses.asdict(LIMITS[one.precision]) for one in artifacts},
        "share": options.share,
        "may_fail": options.may_fail,
        "artifacts": tuple(artifacts),
        "comparisons": tuple(comparisons),
        "groups": groups,
        "shortfalls": tuple(shortfalls),
        "notes": ("a note",),
        "environment": {"torch": "2.13.0", "processor": "one"},
        "fingerprint": "f" * 64,
    }
    return Report(**{**given, **more})


def no_tensorrt(*, counts):
    return Shortfall(what="TensorRT", status="not compared", reason="there is no GPU", counts=counts)


def mixed(**more):
    """One file that passes, one with a feed that fails, one that was not compared."""
    good, bad, gone = artifact("good.onnx"), artifact("bad.onnx"), artifact("gone.onnx")
    comparisons = [comparison(good, feed, metrics()) for feed in FEEDS]
    comparisons += [comparison(bad, "network", metrics(50.0)), comparison(bad, "large", metrics())]
    comparisons += [comparison(gone, "network", None, missing="no CUDA here")]
    return report_of(comparisons, artifacts=[good, bad, gone], shortfalls=[no_tensorrt(counts=False)], **more)


def hostile():
    """A report whose names are markup, commands and control characters."""
    text = "a|b`<script>&\x00\x1b[31m\ufffe\r\n::error::x,%:@you [l](http://e.vil) \U0001f600"
    made = artifact(text)
    return report_of([comparison(made, text, None, refused=text)], artifacts=[made])

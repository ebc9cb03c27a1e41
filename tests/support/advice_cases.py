"""A case for each piece of advice in the package's messages, or the reason why there is none."""

from __future__ import annotations

from pathlib import Path

from tests.support import advice_situations as given
from tests.support.advice import Case, call
from tests.support.advice_situations import AVERAGE, RECIPE, RECIPE_FILE
from tests.support.data_sets import draw_data_set
from tests.support.interpolation_clips import Sound, clip
from tests.support.stacks import stacked_file

KSERVE = "deploy kserve models --storage-uri s3://b/m --force"
LOWER = f"-o o.onnx {RECIPE_FILE}"

FOLLOWED = {
    "baseline.py gate --baseline --accept": [
        Case(
            "gate r.json --baseline b.json",
            "run; - --baseline b.json; + --baseline new.json",
            lambda _: (given.report(), Path("b.json").write_text("{}")),
            names=(("REPORT", "r.json"), ("FILE", "new.json")),
        )
    ],
    "bisect_file.py --against": [Case(f"bisect plain.onnx --size 64x96 {RECIPE_FILE}", "+ --against plain.onnx")],
    "calibration_feeds.py --calibrate": [Case(f"lower counted.onnx {LOWER}", "+ --calibrate x.npz", given.counted)],
    "calibration_feeds.py --size --calibrate": [Case(f"lower plain.onnx --without-warp {LOWER}", "+ --size 64x96")],
    "changes.py --accept": [
        Case(
            "gate r.json --baseline b.json", "+ --accept", given.of_other_weights, after=lambda: Path("b.json").unlink()
        )
    ],
    "colour.py --encoder-options": [
        Case(
            f"interpolate gap_%d.png {AVERAGE} -o o.mp4 --allow-missing --force",
            "+ --encoder-options pix_fmt=yuv420p",
            given.gaps,
            code=0,
        ),
        Case(
            f"interpolate p_%d.png {AVERAGE} -o o.mp4 --codec libsvtav1",
            "+ --encoder-options pix_fmt=yuv420p",
            given.rgb,
        ),
    ],
    "colour.py --codec": [
        Case(
            f"interpolate p_%d.png {AVERAGE} -o o.mp4 --codec libsvtav1",
            "- --codec libsvtav1; + --codec libx264",
            lambda request: given.rgb(request, (33, 32)),
        )
    ],
    "completeness.py --allow-missing": [
        Case(f"interpolate cut.mkv {AVERAGE} -o o.mkv", "+ --allow-missing", given.cut)
    ],
    "copied_streams.py --no-audio": [
        Case(
            f"interpolate pcm.mkv {AVERAGE} -o o.webm",
            "+ --no-audio",
            lambda _: clip(Path("pcm.mkv"), 3, sounds=[Sound("pcm_s16le", 0.1)]),
        )
    ],
    "decision.py --require": [Case("gate r.json --require trt", "- --require trt", given.reported, code=3)],
    "deploy_kserve.py --force": [
        Case("deploy kserve models --storage-uri s3://b/m -o there.json", "+ --force", given.repository)
    ],
    "encoders.py --encoder-options": [
        Case(
            f"interpolate in.mkv {AVERAGE} -o o.mkv --encoder-options preset=nothing",
            "- --encoder-options preset=nothing; + --encoder-options preset=fast",
            lambda _: clip(Path("in.mkv"), 3),
        )
    ],
    "findings.py deploy triton": [
        Case(
            "deploy check models",
            "run deploy triton average.onnx -o new; - models; + new",
            given.without_config,
            code=1,
        )
    ],
    "findings.py deploy triton --force": [
        Case(
            "deploy check models",
            "run",
            given.changed_by_hand,
            names=(("triton", "triton average.onnx -o models"),),
            code=1,
        )
    ],
    "gate.py --checkpoint --self-test": [
        Case("gate r.json --checkpoint x.pth", "- --checkpoint x.pth", given.reported)
    ],
    "gate.py --self-test": [Case("gate", "+ --self-test no.onnx", then=2)],
    "gate.py --self-test --checkpoint --recipe": [
        Case(f"gate --self-test no.onnx --junit j.xml {RECIPE_FILE}", "- --junit j.xml", then=2)
    ],
    "gate_report.py --accept": [
        Case("gate r.json --baseline b.json", "+ --accept", lambda request: given.accepted(request, psnr=75), code=0)
    ],
    "gate_report.py --baseline": [Case("gate r.json --accept", "+ --baseline b.json", given.reported)],
    "init.py --force": [Case("init r.toml", "+ --force")],
    "input_scale.py --calibrate": [
        Case(f"lower bytes.onnx --without-warp --size 64x96 {LOWER}", "+ --calibrate x.npz", given.for_bytes, code=0)
    ],
    "interpolate.py --protocol --timeout --patience --server": [
        Case("interpolate a.png b.png -o o.png --patience 0", "+ --server 127.0.0.1:1", then=3)
    ],
    "interpolate_video.py --resume": [
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4", "+ --resume", given.interrupted, code=130)
    ],
    "kserve.py --gpu": [Case(f"{KSERVE} --gpu 1", "- --gpu 1; + --gpu 0", given.repository, code=0)],
    "kserve.py --triton-release": [
        Case(f"{KSERVE} --triton-release 25.06", "- --triton-release 25.06", given.plans),
        Case(KSERVE, "+ --triton-release 29.01", lambda request: given.plans(request, tensorrt="99.0.0.1")),
    ],
    "kserve.py deploy check": [
        Case(
            KSERVE,
            "run deploy check models",
            lambda request: (given.repository(request), Path("models/interpolator/1/model.onnx").write_text("x")),
            ran=1,
            again=False,
        )
    ],
    "kserve.py deploy triton --device": [
        Case(
            f"{KSERVE} --gpu 0",
            "run deploy triton --device cpu average.onnx -o new; - models; + new",
            lambda request: given.repository(request, device="gpu"),
        )
    ],
    "lowered_file.py --calibrate --size": [
        Case(
            f"lower tiny.onnx --target-psnr 50 --sizes 96x96 {LOWER}",
            "- tiny.onnx; + plain.onnx --without-warp --size 64x96",
        )
    ],
    "lowered_file.py --force": [
        Case(f"lower tiny.onnx {LOWER}", "+ --force", lambda _: Path("o.onnx.json").write_text("{}"))
    ],
    "lowered_file.py --target-psnr --precision": [
        Case(
            f"lower log.onnx --without-warp --calibrate x.npz {LOWER}", "+ --target-psnr 60", given.logarithm_of_little
        )
    ],
    "lowered_file.py --output": [Case(f"lower tiny.onnx -o tiny.onnx --force {RECIPE_FILE}", "+ --output o.onnx")],
    "manifest.py --force": [Case(f"lower tiny.onnx -o there.onnx {RECIPE_FILE}", "+ --force")],
    "output_checks.py --force": [Case(f"interpolate a.png b.png {AVERAGE} -o there.png", "+ --force")],
    "picture_sequences.py --allow-missing": [
        Case(f"interpolate gap_%d.png {AVERAGE} -o o.mkv", "+ --allow-missing", given.gaps)
    ],
    "picture_sequences.py --source-fps": [
        Case(
            f"interpolate gap_%d.png {AVERAGE} -o o.mkv --allow-missing --force",
            "+ --source-fps 30",
            given.gaps,
            code=0,
        )
    ],
    "precision_rule.py --without-warp": [Case(f"lower plain.onnx --size 64x96 {LOWER}", "+ --without-warp")],
    "print_files.py deploy check": [Case("deploy triton average.onnx -o models", "run", code=0, again=False)],
    "print_verdicts.py --json": [Case("gate r.json", "+ --json", given.many_failures, code=1, then=1)],
    "recipe_file.py init": [
        Case("gate r.json --recipe new.toml", "run", given.reported),
        Case(
            "gate r.json --recipe set",
            "run init new.toml; - set; + new.toml",
            lambda _: (given.report(), Path("set").mkdir()),
        ),
    ],
    "repository.py --force": [Case("deploy triton average.onnx -o models", "+ --force", given.repository)],
    "screen.py --json": [
        Case(f"lower many.onnx --without-warp --io fp16 --force {LOWER}", "+ --json", given.many_notes, code=0)
    ],
    "segments.py --resume --force": [
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4", "+ --resume", given.left_parts),
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4", "+ --force", given.left_parts),
    ],
    "segments.py --force --resume": [
        Case(f"interpolate in.mp4 {AVERAGE} -o o.mp4 --resume --times 3", "- --resume; + --force", given.left_parts)
    ],
    "segments.py --times": [
        Case(
            f"interpolate fast.mp4 {AVERAGE} --times 8 -o o.mkv", follow, lambda _: clip(Path("fast.mp4"), 12, rate=240)
        )
        for follow in ("- --times 8; + --times 2", "- -o o.mkv; + -o o.mp4")
    ],
    "stage_options.py --frames": [
        Case(
            "lower plain.onnx -o o.onnx --without-warp --size 64x96 --frames a.png --quiet",
            "- --frames a.png; + --frames a.png b.png",
        )
    ],
    "street_frames.py --frames": [
        Case("lower plain.onnx -o o.onnx --without-warp --size 64x96", "+ --frames a.png b.png", code=3)
    ],
    "writer.py --fps": [
        Case(
            f"interpolate in.mp4 {AVERAGE} -o o.gif --times 3",
            "- --times 3; + --fps 50",
            lambda _: clip(Path("in.mp4"), 3),
        )
    ],
    "video.py --raw-input": [Case(f"interpolate - {AVERAGE} -o o.mkv", "+ --raw-input 96x64:rgb24:25", given.piped)],
}
"""Module and pieces, and the cases; each takes about a second at most."""

FOLLOWED_SLOWLY = {
    "amplified_errors.py --target-psnr": [
        Case(f"lower ties.onnx --without-warp --size 64x96 {LOWER}", "+ --target-psnr 60", given.ties, code=0)
    ],
    "bench_files.py --size --batch": [
        Case(f"bench static.onnx --rounds 5 --no-memory --size 32x32 {RECIPE_FILE}", "- --size 32x32", given.foreign)
    ],
    "bench_speed.py --checkpoint": [
        Case(
            "bench contextnet.onnx --rounds 5 --no-memory --recipe m.toml",
            "+ --checkpoint own.pth",
            lambda request: (
                given.own_files(request),
                Path("m.toml").write_text(RECIPE.replace('seeded"', 'seeded"\narchitecture = "IFNet_m"')),
            ),
            code=0,
        )
    ],
    "bisect_file.py --runtime": [
        Case(
            f"bisect own.plan {RECIPE_FILE}",
            "- own.plan; + ours.onnx --runtime onnxruntime-tensorrt",
            lambda request: (given.ours(request), Path("own.plan").write_bytes(b"ftrt" + bytes(60))),
            then=3,
        )
    ],
    "gate_report.py validate --latency --baseline": [
        Case(
            "gate r.json --speed",
            "run; - r.json; + new/report.json --baseline b.json --accept",
            lambda request: (given.ours(request), given.report()),
            names=(("20", "5 ours.onnx --report new --recipe r.toml"),),
        )
    ],
    "interpolator.py validate": [
        Case(
            "interpolate a.png b.png -o o.png --file nan.onnx",
            f"run validate nan.onnx {RECIPE_FILE}; - nan.onnx; + average.onnx",
            given.not_a_number,
            ran=1,
        )
    ],
    "layouts.py --layout": [
        Case(
            f"score set {RECIPE_FILE}",
            "+ --layout middlebury",
            lambda _: (draw_data_set(Path("set"), "middlebury"), draw_data_set(Path("set"), "vimeo-triplet")),
        )
    ],
    "load_inputs.py --checkpoint": [
        Case(f"validate contextnet.onnx {RECIPE_FILE}", "+ --checkpoint own.pth", given.own_files)
    ],
    "load_inputs.py --no-refine": [
        Case(
            f"validate made/interpolator.onnx --checkpoint own.pth {RECIPE_FILE}",
            "+ --no-refine",
            lambda _: (
                given.formula_file("rife4_0_refined", "own.pth"),
                call(f"export --graph interpolator -o made --checkpoint own.pth --no-refine {RECIPE_FILE}"),
            ),
        )
    ],
    "network_models.py --layout": [
        Case(
            "deploy triton stacked.onnx -o models",
            f"run export --graph interpolator --layout pair -o made --checkpoint own.pth {RECIPE_FILE}; - stacked.onnx"
            "; + made/interpolator.onnx",
            lambda _: (given.formula_file("rife4_6", "own.pth"), stacked_file(Path("stacked.onnx"), 7)),
        )
    ],
    "onnx_source.py --fp32": [
        Case(
            f"build half.onnx -o o.rtx --target rtx --fallback fp32 {RECIPE_FILE}",
            "+ --fp32 ours.onnx",
            lambda request: (
                given.ours(request),
                call(f"lower ours.onnx -o half.onnx {RECIPE_FILE}"),
                Path("half.onnx.json").unlink(),
            ),
        )
    ],
    "open_onnx_runner.py --gridsample": [
        Case(
            f"validate ours.onnx {RECIPE_FILE}",
            f"run lower ours.onnx -o gather.onnx --precision fp32 --gridsample gather {RECIPE_FILE}; - ours.onnx; "
            "+ gather.onnx",
            given.wrong_sampler,
            code=1,
        )
    ],
    "output_files.py --output": [
        Case(f"build ours.onnx -o ours.onnx --force {RECIPE_FILE}", "- -o ours.onnx; + --output o.plan", given.ours)
    ],
    "output_files.py --output --force": [Case(f"build ours.onnx -o there.plan {RECIPE_FILE}", "+ --force", given.ours)],
    "parse_network.py lint": [
        Case(
            f"build deform.onnx -o o.rtx --target rtx {RECIPE_FILE}",
            "run lint deform.onnx",
            given.refused_by_parser,
            ran=1,
            again=False,
        )
    ],
    "engine_manifest.py build": [
        Case("inspect own.rtx", "run", given.rtx_engine, names=(("FILE.onnx", f"ours.onnx {RECIPE_FILE}"),), code=0)
    ],
    "reference_network.py --no-refine": [
        Case(
            "export -o out --graph contextnet --size 64x64 --checkpoint own.pth --no-refine",
            "- --no-refine",
            lambda _: given.formula_file("rife4_0_refined", "own.pth"),
        )
    ],
    "refit_engine.py build --target": [
        Case(
            f"refit own.rtx ours.onnx -o new.rtx {RECIPE_FILE}",
            "run",
            lambda request: given.rtx_engine(request, lost=False),
            again=False,
        )
    ],
    "released_weights.py --checkpoint": [
        Case("export -o out --graph contextnet --size 64x64", "+ --checkpoint own.pth", given.without_network, code=3)
    ],
    "report_files.py --report": [
        Case(
            "gate there.json",
            f"run validate --report new ours.onnx {RECIPE_FILE}; - there.json; + new/report.json",
            given.ours,
        )
    ],
    "scoring.py --output": [
        Case(
            f"score set -o out {RECIPE_FILE}",
            "- -o out; + --output other",
            lambda _: (draw_data_set(Path("set"), "middlebury"), Path("out/score.jsonl").mkdir(parents=True)),
        )
    ],
    "speed.py --latency": [
        Case(
            "gate r.json --baseline b.json --speed",
            f"run validate --latency 5 ours.onnx --report new {RECIPE_FILE}; - r.json; + l.json",
            lambda request: (given.ours(request), given.measured(request)),
            code=3,
        )
    ],
    "validate_files.py --force": [Case(f"validate contextnet.onnx {RECIPE_FILE}", "+ --force", given.own_files)],
    "validation_report.py --checkpoint": [
        Case(f"validate contextnet.onnx --force {RECIPE_FILE}", "+ --checkpoint own.pth", given.own_files, code=0)
    ],
}
"""The same, for cases that take longer."""

_GPU = "a GPU, and a TensorRT that reads GridSample wrongly or is not exact"
_SERVER = "an inference server; tests/triton has one"
NOT_FOLLOWED = {
    "backends.py --patience": f"names the option that limits the time of waiting for {_SERVER}",
    "bindings.py doctor": "a TensorRT library and no driver; `doctor` is run elsewhere",
    "build_process.py --fallback": _GPU,
    "channels.py --url --protocol": _SERVER,
    "diagnosis.py --force-reinstall": "pip",
    "diagnosis.py reproduce": "says what Polygraphy is for",
    "encoders.py --codec": "a PyAV without that encoder",
    "engine_diagnosis.py --gpus": "docker",
    "engine_diagnosis.py --upgrade": "pip",
    "engine_runner.py refit": "a GPU; tests/unit/jobs/test_engine_jobs_refit.py refits a stripped engine of the fake",
    "fallbacks.py --fallback": _GPU,
    "findings.py build": "a TensorRT for servers; `engine_manifest.py build` is followed with TensorRT for RTX",
    "findings.py lower": "asks first for a line of a config to be taken out",
    "grid_sample_check.py --fallback": _GPU,
    "init.py run --recipe": "the main job takes minutes; tests of `run` read what `init` writes",
    "interpolate_video.py --force --resume": "a video that changes while it is read",
    "interpolator.py deploy check": _SERVER,
    "junit.py gate": "a name in a file",
    "machine.py --gpus": "docker",
    "markdown.py --accept": "the advice of `gate_report.py --accept`, in a file",
    "model_config.py deploy triton": "a comment in a file",
    "onnxruntime.py lint": "a provider of a GPU",
    "engine_manifest.py --target": "the end of the command of `engine_manifest.py build`",
    "print_files.py weights get": "the network",
    "print_verdicts.py --require": "names the option that asks for a runtime; `decision.py --require` is followed",
    "recipe_file.py run --recipe": "a comment in a file, with the command of `init.py run --recipe`",
    "refit_file.py --refittable": "a GPU; tests/unit/jobs/test_engine_jobs_refit.py refits such an engine of the fake",
    "releases.py --rm": "docker",
    "serve_page.py --checkpoint --file": "serves until it is interrupted",
    "serve_page.py --port": "serves until it is interrupted",
    "shared_memory.py --shm-size": "docker",
    "validation_report.py --checkpoint --frames": "tests/unit/jobs/test_validate_files.py reads the command",
    "verify_networks.py --gridsample": _SERVER,
}
"""Module and pieces, and what a test would need."""

"""Every file names the commands that made it, from the weights on; run again, they make the same bytes."""

import json
import shlex
import shutil

import pytest

from refine_export.cli.main import load_verb, main
from refine_export.cli.render.print_commands import command_lines
from refine_export.engine import engine_file as engine_file_module
from refine_export.errors import EngineError, RefineExportError, RequestError
from refine_export.jobs.build_engine import build
from refine_export.jobs.export_graphs import export
from refine_export.jobs.lower_onnx import lower
from refine_export.jobs.recipe_file import recipe_from_toml
from refine_export.jobs.reproduce_file import Step, reproduce
from refine_export.support.manifest import manifest_path
from tests.support.engine_models import needs_rtx
from tests.support.refusals import refused

RECIPE = recipe_from_toml("""
    [checkpoint]
    weights = "seeded"
    seed = 3
    [scene]
    height = 64
    width = 96
    [export]
    dynamic = false
    size = "64x96"
    [lower]
    fp32_tail = false
""")


@pytest.fixture(name="chain", scope="module")
def chain_fixture(tmp_path_factory):
    """A static `contextnet` of seeded weights, lowered, and its engine for RTX GPUs."""
    folder = tmp_path_factory.mktemp("it's made")
    exported = export(None, "contextnet", output=folder / "context.onnx", recipe=RECIPE)
    lowered = lower(exported, output=folder / "context.fp16.onnx", recipe=RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
        return build(lowered, output=folder / "context.rtx", target="rtx", gpu=["rtx40", "sm120"]).path


@pytest.fixture(name="here")
def here_fixture(chain, tmp_path):
    """A copy of the engine and its manifest alone, to be damaged."""
    for path in (chain, manifest_path(chain)):
        shutil.copy(path, tmp_path)
    return tmp_path / chain.name


def changed(path, **fields):
    content = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(content | fields))


@needs_rtx
def test_run_again_the_commands_make_the_same_files(here, monkeypatch):
    """The engine and its manifest are enough: the files between are made too. Some small engines never repeat."""
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    again = reproduce(here, run=here.parent / "again")
    assert [step.verb for step in again.steps] == ["export", "lower", "build"]
    assert [step.outcome for step in again.steps[:2]] == ["same bytes", "same bytes"]
    assert again.steps[2].outcome in ("same bytes", "same network")
    assert (again.passed, again.notes) == (True, ())
    with refused("output-exists", RequestError):
        reproduce(here, run=here.parent / "again")


@needs_rtx
def test_commands_are_those_that_the_verbs_take(here):
    found = reproduce(here)
    assert found.passed is None
    exported, lowered, built = ("\n".join(command_lines(step)) for step in found.steps)
    for step in found.steps:
        _, verb, *words = shlex.split(command_lines(step)[-1])
        load_verb(verb).make_context(verb, words)  # exits where a flag or a value is wrong
    assert "--graph contextnet --static --size 64x96 --recipe reproduced/contextnet.onnx.toml" in exported
    assert '[checkpoint]\nweights = "seeded"\nseed = 3\nEND' in exported
    assert "[lower]\nfp32_tail = false" in lowered
    assert "[scene]\nheight = 64\nwidth = 96" in lowered
    assert built == (
        "refine-export build reproduced/context.fp16.onnx --output reproduced/context.rtx "
        "--fp32 reproduced/contextnet.onnx --target rtx --gpu rtx40 --gpu sm120"
    )
    assert "polygraphy convert reproduced/context.fp16.onnx" in found.cross_checks["polygraphy"]


def test_every_kind_of_value_becomes_words(tmp_path):
    step = Step(
        verb="lower",
        files={"onnx": "it's.onnx"},
        arguments={"feeds": ["a.npz", "b.npz"], "size": "64x96", "without_warp": True},
        options={"precision": "bf16", "target_psnr_db": 60.0, "frames": ["a b.png", "c.png"], "refine": False},
        output=tmp_path / "out.onnx",
        sha256="",
        versions={},
    )
    [line] = command_lines(step)
    context = load_verb("lower").make_context("lower", shlex.split(line)[2:])
    assert str(context.params["file"]) == "it's.onnx"
    assert [str(path) for path in context.params["calibrate"]] == ["a.npz", "b.npz"]
    assert (context.params["size"], context.params["without_warp"]) == ("64x96", True)
    assert (context.params["precision"], context.params["target_psnr_db"]) == ("bf16", 60.0)
    assert [str(path) for path in context.params["frames"]] == ["a b.png", "c.png"]
    assert context.params["refine"] is False


@needs_rtx
def test_what_differs_is_named_with_its_reason(here, monkeypatch):
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    exported, *rest = json.loads(manifest_path(here).read_text())["commands"]
    exported |= {"sha256": "0" * 64, "versions": exported["versions"] | {"torch": "1.0"}}
    changed(here, commands=[exported, *rest])
    again = reproduce(here, run=here.parent / "again")
    assert [step.outcome for step in again.steps[:2]] == ["differs", "same bytes"]
    assert again.passed is False
    [reason] = again.steps[0].reasons
    assert 'torch was "1.0"' in reason


@needs_rtx
@pytest.mark.parametrize(
    "broken",
    [
        *({"verb": verb} for verb in ("run", "serve-page", "", True, ["export"])),
        *({"options": options} for options in ("x", {"batch": "x"}, {"unknown": 1})),
        *({"arguments": {"graph": graph}} for graph in ("../contextnet", "a/b", "a\nb")),
        *({"arguments": {"graph": "contextnet", name: True}} for name in ("force", "output", "unknown")),
        {"files": {"onnx": 3}},
        {"files": {"fp32": "x.onnx"}},
        {"artifact": 3},
        {"sha256": 3},
        {"versions": 3},
        {"verb": "lower", "files": {"onnx": "x.onnx"}, "arguments": {}, "artifact": "../x.onnx"},
        {"verb": "lower", "files": {"onnx": "x.onnx"}, "arguments": {}, "artifact": "x\n.onnx"},
        {"verb": "lower", "files": {}, "arguments": {}, "artifact": "x.onnx"},
    ],
)
def test_commands_that_no_verb_writes_are_refused(here, broken):
    """A stranger's could overwrite files outside of the folder."""
    commands = json.loads(manifest_path(here).read_text())["commands"]
    changed(here, commands=[commands[0] | broken, *commands[1:]])
    with refused("damaged-manifest", RequestError):
        reproduce(here)


@needs_rtx
def test_texts_of_a_manifest_are_no_commands(here, capsys):
    """The output is a shell script."""
    commands = json.loads(manifest_path(here).read_text())["commands"]
    evil = {"sha256": "0\ntouch /tmp/a", "files": {"onnx": "x\ntouch /tmp/b\x0btouch /tmp/c"}, "arguments": {}}
    changed(here, commands=[commands[0] | evil | {"verb": "lower"}, *commands[1:]])
    with pytest.raises(SystemExit):
        main(["reproduce", str(here)])
    printed = capsys.readouterr().out
    assert "touch /tmp/a" in printed
    words = shlex.split(printed, comments=True)
    assert "touch" not in words


@needs_rtx
def test_files_without_a_command_are_refused(here, exports, tmp_path, capsys):
    for broken in ({"files": "x"}, {"arguments": 3}, {"verb": "export", "arguments": {}}):
        commands = json.loads(manifest_path(here).read_text())["commands"]
        changed(here, commands=[commands[0] | broken, *commands[1:]])
        with refused("damaged-manifest", RequestError):
            reproduce(here)
        changed(here, commands=commands)
    changed(here, commands=[])
    with refused("no-command", RequestError):
        reproduce(here)
    changed(here, sha256="0" * 64)
    with refused("other-file", RequestError):
        reproduce(here)
    manifest_path(here).unlink()
    with refused("unknown-engine", EngineError):
        reproduce(here)
    foreign = shutil.copy(exports.fp32("contextnet"), tmp_path / "foreign.onnx")
    with refused("missing-manifest", RequestError):
        reproduce(foreign)
    with refused("not-found", RefineExportError):
        reproduce(tmp_path / "absent.onnx")
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", str(foreign)])
    assert (ended.value.code, capsys.readouterr().out) == (2, "")
    with refused("no-command", RequestError):
        reproduce(exports.fp32("contextnet"))


@needs_rtx
def test_an_engine_of_several_sizes_is_the_same_network(exports, tmp_path, monkeypatch):
    """Its bytes differ in each build. The commands begin at its file, which no verb made."""
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    source = shutil.copy(exports.lowered("contextnet"), tmp_path / "theirs.onnx")
    made = build(source, output=tmp_path / "m.rtx", target="rtx", min_size="64x64", opt_size="96x160").path
    found = reproduce(made, run=tmp_path / "again")
    assert [(step.files["onnx"], step.outcome) for step in found.steps] == [(str(source), "same network")]
    assert (found.passed, len(found.notes)) == (True, 1)
    details = json.loads(manifest_path(made).read_text())["details"]
    changed(made, details=details | {"samplers": {"layers": 0, "sampling": {}, "repairs": []}})
    assert [step.outcome for step in reproduce(made, run=tmp_path / "other").steps] == ["differs"]

"""A served network whose backend samples wrongly fails, and its own answer names the fault."""

import pytest

from refine_export.artifacts import artifact_from_file
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import sources_from_options
from refine_export.deploy.verify import verify_networks
from refine_export.deploy.verify.server_models import ServerModel
from refine_export.deploy.verify.verify_networks import compare_network
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Silent
from refine_export.validate.validate_options import ValidateOptions
from tests.support.wrong_samplers import WRONG, WrongSampler


def answers_of(path, reference, monkeypatch, served):
    """Compare a model with a double of a server that runs `served` in ONNX Runtime."""
    monkeypatch.setattr(verify_networks, "_VerifiedRunner", lambda *_: served(path.read_bytes()))
    artifact = artifact_from_file(path)
    model = ServerModel(name=artifact.graph, version="1", artifact=artifact, sizes=((64, 96),), notes=())
    sources = sources_from_options(FramesOptions(scene_frames=2), SceneOptions(height=64, width=96, motion_px=4.0))
    options = ValidateOptions(flows=("subpixel", "outside"), sizes=())
    return compare_network(model, [ServerOptions(url="localhost:1")], reference, sources, options, Silent()).answers


@pytest.mark.parametrize("problem", WRONG)
def test_a_server_that_samples_wrongly_is_named(exports, references, monkeypatch, problem):
    monkeypatch.setattr(WrongSampler, "wrong", WRONG[problem])
    path = exports.fp32("contextnet", size="64x96")
    failed = [one for one in answers_of(path, references("IFNet"), monkeypatch, WrongSampler) if one.status == "failed"]
    assert failed
    assert {one.reasons[0].partition("(")[2].partition(")")[0] for one in failed} == {problem}


def test_other_faults_are_not_taken_for_sampling(exports, references, monkeypatch):
    class Brighter(OrtRunner):
        def _run(self, feeds):
            return {name: value * 1.05 for name, value in super()._run(feeds).items()}

    path = exports.fp32("contextnet", size="64x96")
    right, wrong = (answers_of(path, references("IFNet"), monkeypatch, served) for served in (OrtRunner, Brighter))
    assert {one.status for one in right} == {"passed"}
    assert {one.status for one in wrong} == {"failed"}
    assert not any("samples wrongly" in reason for one in wrong for reason in one.reasons)

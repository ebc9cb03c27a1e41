"""The manifest for KServe is valid for its CRD, and fits the repository."""

import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from refine_export.deploy.kserve import inference_service
from refine_export.deploy.kserve_options import KServeOptions
from refine_export.deploy.triton.releases import NEWEST
from refine_export.errors import RequestError
from tests.support.model_repositories import good_repository, keep_only, merge, new_plan, replace, second_plan
from tests.support.paths import TESTS
from tests.support.refusals import refused

SCHEMA = TESTS / "data" / "inferenceservice_schema.yaml"
URI = "s3://bucket/models"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = good_repository(tmp_path_factory.mktemp("good"))
    (root / "deployment.json").unlink()  # its hashes are not the subject
    return root


@pytest.fixture
def repository(good, tmp_path):
    return Path(shutil.copytree(good, tmp_path / "models"))


@pytest.fixture
def onnx(repository):
    return keep_only(repository, "interpolate", "interpolate_pre", "interpolate_post", "interpolator")


def strict(schema):
    """Refuse unknown fields, as the API server does with --validate=strict."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return closed | {name: strict(part) for name, part in schema.items()}


def check(service):
    jsonschema.Draft202012Validator(strict(yaml.safe_load(SCHEMA.read_text()))).validate(service)


def written(root, **options):
    """Return the valid manifest, its part about the model, and the result."""
    result = inference_service(root, KServeOptions(**{"storage_uri": URI} | options))
    content = yaml.safe_load(result.text)
    check(content)
    return content, content["spec"]["predictor"]["model"], result


def run_on_cpu(root):
    replace("interpolator", "kind", 2, "instance_group", 0)(root)


def test_a_repository_with_plans(repository):
    service, model, result = written(repository)
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["metadata"]["name"] == "interpolate"
    assert (result.release, model["runtimeVersion"]) == ("26.06", "26.06-py3"), "it has TensorRT 11.0.0.114"
    assert [note.partition(":")[0] for note in result.notes] == ["echo"]
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 4)
    scaling = [predictor[name] for name in ("scaleMetric", "scaleTarget", "containerConcurrency")]
    assert scaling == ["concurrency", 4, 8]
    assert model["modelFormat"] == {"name": "triton"}
    assert (model["runtime"], model["protocolVersion"]) == ("kserve-tritonserver", "grpc-v2")
    assert model["storageUri"] == URI
    assert model["ports"] == [{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}]
    assert model["args"] == ["--disable-auto-complete-config", "--exit-timeout-secs=30"]
    limits = model["resources"]["limits"]
    assert limits == model["resources"]["requests"] == {"cpu": "4", "memory": "7Gi", "nvidia.com/gpu": "1"}
    assert "compute capability 9.0" in result.text


def test_probes(onnx):
    service, model, _ = written(onnx)
    paths = {name: model[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert paths == {
        "startup": {"path": "/v2/health/ready", "port": 8080},
        "readiness": {"path": "/v2/models/interpolate/ready", "port": 8080},
        "liveness": {"path": "/v2/health/live", "port": 8080},
    }
    startup_s = model["startupProbe"]["periodSeconds"] * model["startupProbe"]["failureThreshold"]
    deadline = service["metadata"]["annotations"]["serving.knative.dev/progress-deadline"]
    assert startup_s == 1800, "the accelerator builds engines"
    assert int(deadline.removesuffix("s")) > startup_s
    assert model["env"] == [{"name": "NVIDIA_TF32_OVERRIDE", "value": "0"}]
    path = ("optimization", "execution_accelerators", "gpu_execution_accelerator", 0)
    replace("interpolator", "name", "cuda", *path)(onnx)
    _, model, _ = written(onnx)
    assert model["startupProbe"]["failureThreshold"] == 60
    assert "env" not in model


def test_one_model_without_the_ensemble(onnx):
    shutil.rmtree(onnx / "interpolate")
    service, model, _ = written(onnx)
    assert service["metadata"]["name"] == "interpolate-post", "a host name has no underscore"
    assert model["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


def test_the_options(onnx):
    run_on_cpu(onnx)
    given = {"name": "frames", "release": "26.04", "gpus": 0, "min_replicas": 0, "max_replicas": 9, "concurrency": 2}
    service, model, _ = written(onnx, **given, protocol="http", storage_uri="pvc://claim/models/")
    predictor = service["spec"]["predictor"]
    assert service["metadata"]["name"] == "frames"
    assert [predictor[name] for name in ("minReplicas", "maxReplicas", "scaleTarget")] == [0, 9, 2]
    assert (model["runtimeVersion"], model["protocolVersion"]) == ("26.04-py3", "v2")
    assert model["ports"] == [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}]
    assert model["resources"]["limits"] == {"cpu": "4", "memory": "2Gi"}
    assert model["storageUri"] == "pvc://claim/models"


def test_unused_gpus_are_noted(onnx):
    run_on_cpu(onnx)
    assert len(written(onnx)[2].notes) == 1
    assert written(onnx, gpus=0)[2].notes == ()


def test_python_models_get_shared_memory(repository):
    root = keep_only(repository, "echo")
    service, model, result = written(root)
    [volume] = service["spec"]["predictor"]["volumes"]
    [mount] = model["volumeMounts"]
    assert volume == {"name": mount["name"], "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert mount["mountPath"] == "/dev/shm"
    assert model["resources"]["limits"]["memory"] == "7Gi"
    assert len(result.notes) == 1
    merge("echo", 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "env.tar.gz" } }')(root)
    assert written(root)[2].notes == ()


def test_a_repository_without_plans(onnx):
    assert written(onnx)[2].release == NEWEST
    with (onnx / "interpolator" / "1" / "more").open("wb") as file:
        file.truncate(3 * 2**30)
    assert written(onnx)[1]["resources"]["limits"]["memory"] == "14Gi"


def test_a_plan_that_is_version_compatible(repository):
    new_plan(repository, tensorrt="10.9.0.34", version_compatible=True)
    _, model, result = written(repository)
    assert result.release == "26.07", "the newest whose TensorRT is known"
    assert "--backend-config=tensorrt,version-compatible=true" in model["args"]


@pytest.mark.parametrize(
    ("tensorrt", "options", "code"),
    [
        ("10.9.9.9", {}, "no-release"),
        ("11.0.0.114", {"release": "25.03"}, "plan-release"),
        ("11.0.0.114", {"gpus": 0}, "needs-gpu"),
    ],
)
def test_plans_that_no_server_could_run(repository, tensorrt, options, code):
    new_plan(repository, tensorrt=tensorrt)
    with refused(code, RequestError):
        written(repository, **options)


def test_plans_of_different_releases(repository):
    second_plan(repository, "8.9", (8, 9), tensorrt="10.16.1.11")
    with refused("no-release", RequestError):
        written(repository)


@pytest.mark.parametrize("release", ["26.04", "30.01"])
def test_a_release_that_is_not_known_to_run_a_plan_is_noted(repository, release):
    _, model, result = written(repository, release=release)
    assert model["runtimeVersion"] == f"{release}-py3"
    assert any("docker run" in note for note in result.notes)
    assert "# note: " in result.text


def test_a_repository_that_does_not_pass_the_pre_flight_is_refused(onnx):
    (onnx / "interpolate" / "1" / "README.txt").unlink()
    with refused("preflight-failed", RequestError):
        written(onnx)
    (onnx / "interpolator" / "config.pbtxt").write_text("no_such_field: 1")
    with refused("preflight-failed", RequestError):
        written(onnx)


def test_the_schema_refuses_wrong_fields(onnx):
    """Otherwise the checks above would show nothing."""
    service = written(onnx)[0]
    service["spec"]["predictor"]["maxReplica"] = 4
    with pytest.raises(jsonschema.ValidationError):
        check(service)


def test_the_command_line(repository, tmp_path, command):
    output = tmp_path / "service.yaml"
    given = ["deploy", "kserve", repository, "--storage-uri", URI, "-o", output]
    code, out, _ = command(*given)
    assert (code, "Triton 26.06" in out) == (0, True)
    check(yaml.safe_load(output.read_text()))
    before = output.read_text()
    assert command(*given, "--concurrency", 2)[0] == 2
    assert output.read_text() == before
    code, out, _ = command(*given, "--concurrency", 2, "--force", "--triton-release", "26.04")
    assert (code, "note: " in out) == (0, True)
    assert yaml.safe_load(output.read_text())["spec"]["predictor"]["scaleTarget"] == 2
    for wrong in ([tmp_path / "nothing", "--storage-uri", URI], [repository, "--storage-uri", "models"]):
        assert command("deploy", "kserve", *wrong, "-o", tmp_path / "n.yaml")[0] == 2
    assert not (tmp_path / "n.yaml").exists()

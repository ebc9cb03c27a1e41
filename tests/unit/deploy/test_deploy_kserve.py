"""What is written for KServe is what its CRD takes, and what the repository needs."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from refine_export.cli.main import main
from refine_export.deploy.kserve import KServeOptions, inference_service
from refine_export.deploy.triton.releases import NEWEST
from refine_export.errors import RequestError
from tests.support.deploy_mutations import new_plan, second_plan
from tests.support.deploy_repository import add, edit, good_repository, keep_only
from tests.support.paths import TESTS

SCHEMA = TESTS / "data" / "inferenceservice_schema.yaml"
URI = "s3://bucket/models"


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    return good_repository(tmp_path_factory)


@pytest.fixture
def repository(good, tmp_path):
    return Path(shutil.copytree(good, tmp_path / "models", symlinks=True))


def strict(schema):
    """As the API server takes a manifest with --validate=strict: an unknown field is an error."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return closed | {name: strict(part) for name, part in schema.items()}


def check(service):
    jsonschema.Draft202012Validator(strict(yaml.safe_load(SCHEMA.read_text()))).validate(service)


def made(root, **options):
    """The manifest, and the part of it that is about the model; the CRD takes it."""
    service = inference_service(root, KServeOptions(**{"storage_uri": URI} | options))
    content = yaml.safe_load(service.text)
    check(content)
    return content, content["spec"]["predictor"]["model"], service


def without_plans(root, *names):
    keep_only(root, *(names or ("interpolate", "interpolate_pre", "interpolate_post", "interpolator_m")))
    (root / "deployment.json").unlink()
    return root


@pytest.fixture
def onnx(repository):
    return without_plans(repository)


def test_a_repository_with_plans(repository):
    service, model, made_of = made(repository)
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["metadata"]["name"] == "interpolate"
    assert (made_of.release, model["runtimeVersion"]) == ("26.06", "26.06-py3"), "what runs TensorRT 11.0.0.114"
    assert [note.partition(":")[0] for note in made_of.notes] == ["echo"]
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
    assert "compute capability 9.0 alone" in made_of.text


def test_the_probes_ask_what_the_server_answers(onnx):
    service, model, _ = made(onnx)
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
    edit("interpolator_m", 'name: "tensorrt"', 'name: "cuda"')(onnx)
    _, model, _ = made(onnx)
    assert model["startupProbe"]["failureThreshold"] == 60
    assert "env" not in model


def test_one_model_without_the_ensemble(onnx):
    shutil.rmtree(onnx / "interpolate")
    service, model, _ = made(onnx)
    assert service["metadata"]["name"] == "interpolate-post", "no underscore in a host's name"
    assert model["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


def test_the_options(onnx):
    edit("interpolator_m", "KIND_GPU", "KIND_CPU")(onnx)
    given = {"name": "frames", "release": "26.04", "gpus": 0, "min_replicas": 0, "max_replicas": 9, "concurrency": 2}
    service, model, _ = made(onnx, **given, protocol="http", storage_uri="pvc://claim/models/")
    predictor = service["spec"]["predictor"]
    assert service["metadata"]["name"] == "frames"
    assert [predictor[name] for name in ("minReplicas", "maxReplicas", "scaleTarget")] == [0, 9, 2]
    assert (model["runtimeVersion"], model["protocolVersion"]) == ("26.04-py3", "v2")
    assert model["ports"] == [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}]
    assert model["resources"]["limits"] == {"cpu": "4", "memory": "2Gi"}
    assert model["storageUri"] == "pvc://claim/models"


def test_a_repository_for_cpus_is_not_given_gpus_silently(onnx):
    edit("interpolator_m", "KIND_GPU", "KIND_CPU")(onnx)
    for name in ("interpolate_pre", "interpolate_post"):
        with (onnx / name / "config.pbtxt").open("a") as config:
            config.write("instance_group { kind: KIND_CPU }\n")
    _, _, service = made(onnx)
    assert any("no model of the repository asks for a GPU" in note for note in service.notes)
    _, _, service = made(onnx, gpus=0)
    assert not any("asks for a GPU" in note for note in service.notes)


def test_python_models_get_shared_memory(repository):
    root = without_plans(repository, "echo")
    service, model, made_of = made(root)
    [volume] = service["spec"]["predictor"]["volumes"]
    [mount] = model["volumeMounts"]
    assert volume == {"name": mount["name"], "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert mount["mountPath"] == "/dev/shm"
    assert model["resources"]["limits"]["memory"] == "7Gi"
    assert ["echo: model.py runs in the Python of the image" in note for note in made_of.notes] == [True]
    add("echo", 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "env.tar.gz" } }')(root)
    assert made(root)[2].notes == ()


def test_memory_grows_with_the_files(onnx):
    with (onnx / "interpolator_m" / "1" / "more").open("wb") as file:
        file.truncate(3 * 2**30)
    assert made(onnx)[1]["resources"]["limits"]["memory"] == "14Gi"


def test_without_plans_the_newest_release(onnx):
    assert made(onnx)[2].release == NEWEST


def test_a_plan_that_is_version_compatible(repository):
    new_plan(repository, version="10.9.0.34", version_compatible=True)
    (repository / "deployment.json").unlink()
    _, model, service = made(repository)
    assert service.release == "26.07", "the newest whose TensorRT is known"
    assert "--backend-config=tensorrt,version-compatible=true" in model["args"]


@pytest.mark.parametrize(
    ("version", "options", "words"),
    [
        (
            "10.9.9.9",
            {},
            r"no release of Triton from 25.01 to \S+ is known to run these plans \(contextnet/1/model.plan",
        ),
        ("11.0.0.114", {"release": "25.03"}, "built by TensorRT 11.0.0.114, and Triton 25.03 has 10.9.0.34"),
        ("11.0.0.114", {"gpus": 0}, "gpus is 0, and contextnet runs on a GPU alone"),
    ],
)
def test_what_no_server_could_run(repository, version, options, words):
    new_plan(repository, version=version)
    (repository / "deployment.json").unlink()
    with pytest.raises(RequestError, match=words):
        made(repository, **options)


@pytest.mark.parametrize("release", ["26.04", "30.01"])
def test_a_release_that_is_not_known_to_run_a_plan_is_noted(repository, release):
    _, model, service = made(repository, release=release)
    assert model["runtimeVersion"] == f"{release}-py3"
    [note] = [note for note in service.notes if "contextnet" in note or "30.01" in note]
    assert "not known" in note
    assert "docker run" in note
    assert "# note: " in service.text


def test_plans_of_different_releases(repository):
    second_plan(repository, "8.9", (8, 9), version="10.16.1.11")
    (repository / "deployment.json").unlink()
    with pytest.raises(RequestError, match="is known to run these plans"):
        made(repository)


def test_a_repository_with_errors_is_refused(onnx):
    add("interpolator_m", "no_such_field: 1")(onnx)
    with pytest.raises(RequestError, match=r"does not pass the pre-flight: interpolator_m/config.pbtxt, line \d+"):
        made(onnx)


def test_an_empty_folder_would_be_lost_in_a_bucket(onnx):
    (onnx / "interpolate" / "1" / "README").unlink()
    with pytest.raises(RequestError, match="interpolate/1: the folder is empty"):
        made(onnx)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"storage_uri": "models"}, "expected a place that KServe reads, such as s3://bucket/models"),
        ({"storage_uri": "ftp://host/models"}, "expected a place that KServe reads"),
        ({"storage_uri": "s3://bucket/a b"}, "expected a place that KServe reads"),
        ({"storage_uri": 's3://b"\n# x'}, "expected a place that KServe reads"),
        ({"name": "Models_1"}, "small letters, digits and dashes"),
        ({"name": "a" * 51}, "at most 50"),
        ({"release": "26.13"}, "expected a year and a month, such as 26.06"),
        ({"min_replicas": 5}, "min_replicas is 5; expected 0 to max_replicas, 4"),
        ({"max_replicas": 0, "min_replicas": 0}, "expected 1 to 1000"),
        ({"concurrency": 0}, "expected 1 to 1000"),
        ({"gpus": -1}, "expected 0 to 16"),
        ({"protocol": "rest"}, "expected grpc or http"),
    ],
)
def test_options_that_are_wrong(options, words):
    with pytest.raises(RequestError, match=words):
        KServeOptions(**{"storage_uri": URI} | options)


PLANTED = {
    "unknown": lambda service: service["spec"]["predictor"].update(maxReplica=4),
    "unknown in the model": lambda service: service["spec"]["predictor"]["model"].update(storageURI=URI),
    "text for a number": lambda service: service["spec"]["predictor"].update(scaleTarget="4"),
    "no such metric": lambda service: service["spec"]["predictor"].update(scaleMetric="requests"),
    "no port": lambda service: service["spec"]["predictor"]["model"]["startupProbe"]["httpGet"].pop("port"),
    "no format": lambda service: service["spec"]["predictor"]["model"]["modelFormat"].pop("name"),
    "no quantity": lambda service: service["spec"]["predictor"]["model"]["resources"]["limits"].update(memory="7 GB"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_the_schema_refuses_a_wrong_field(onnx, planted):
    service = copy.deepcopy(made(onnx)[0])
    PLANTED[planted](service)
    with pytest.raises(jsonschema.ValidationError):
        check(service)


def run(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["deploy", "kserve", *map(str, arguments)])
    return caught.value.code, *capsys.readouterr()


def test_the_command_line(repository, tmp_path, capsys):
    output = tmp_path / "service.yaml"
    given = [repository, "--storage-uri", URI, "-o", output]
    code, said, _ = run(given, capsys)
    assert code == 0
    assert "service.yaml: Triton 26.06; next: kubectl apply -f" in said
    check(yaml.safe_load(output.read_text()))
    before = output.read_text()
    code, _, said = run([*given, "--concurrency", 2], capsys)
    assert (code, output.read_text()) == (2, before)
    assert "is there already" in said
    code, said, _ = run([*given, "--concurrency", 2, "--force", "--triton-release", "26.04"], capsys)
    assert code == 0
    assert "note: whether Triton 26.04 runs contextnet/1/model.plan" in said
    assert yaml.safe_load(output.read_text())["spec"]["predictor"]["scaleTarget"] == 2
    assert run([tmp_path / "nothing", "--storage-uri", URI, "-o", tmp_path / "n.yaml"], capsys)[0] == 2
    assert not (tmp_path / "n.yaml").exists()

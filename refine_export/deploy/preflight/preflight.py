"""Pre-flight of a model repository: what a server would accept and then do wrong, as far as files show it.

    for finding in check_repository(Path("models"), release="26.06").findings:
        print(finding.severity, finding.model, finding.where, finding.message)

Neither a server nor a GPU is needed; the schema of configs is tritonclient's. Repositories of other tools are checked
too: files are data here, and no code of theirs is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.deploy.preflight.findings import RepositoryFinding, finding
from refine_export.deploy.preflight.repository_reader import Model, links_that_lead_out, read_models
from refine_export.deploy.preflight.rules_config import check_config, check_ensemble
from refine_export.deploy.preflight.rules_engine import check_engines
from refine_export.deploy.preflight.rules_files import check_files
from refine_export.deploy.preflight.rules_hashes import check_deployment, check_manifests, check_parameters
from refine_export.deploy.preflight.rules_onnx import check_onnx
from refine_export.deploy.triton.releases import RELEASES, Release
from refine_export.errors import RepositoryError, RequestError
from refine_export.support.text import json_safe


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """Findings in a repository."""

    path: Path
    models: tuple[str, ...]
    """Names of the models' folders."""
    findings: tuple[RepositoryFinding, ...]
    """Findings in the order of the models, those of the whole repository first."""

    @property
    def passed(self) -> bool:
        """True where no finding is an error; there may be warnings."""
        return not any(one.severity == "error" for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "repository": str(self.path),
            "passed": self.passed,
            "models": list(self.models),
            "findings": json_safe(self.findings),
        }


def check_repository(root: Path, *, release: str | None = None) -> Preflight:
    """Check all models of a repository.

    Args:
        root: the folder that holds the models' folders.
        release: the release of Triton that is to serve it, such as `26.06`; without one, engines are not compared with
            its TensorRT.

    Raises:
        RequestError: `not-a-repository`, `cannot-read` or `unknown-release`.
        UnavailableError: `missing-package`; tritonclient.
    """
    if release is not None and release not in RELEASES:
        message = f"Triton {release} is not known here; expected one of {', '.join(RELEASES)}"
        raise RequestError(message, code="unknown-release", release=release)
    findings: list[RepositoryFinding] = []
    try:
        names, models = read_models(root, findings)
        findings += links_that_lead_out(root)
        findings += check_deployment(root)
        if not names:
            findings.append(finding("no-models", "", "", "it has no folders"))
        by_name = {model.name: model for model in models}
        for model in models:
            findings += _check_model(model, by_name, RELEASES.get(release or ""))
    except OSError as error:
        raise RepositoryError(
            f"{error.filename} cannot be read: {error.strerror}; check its permissions", code="cannot-read", path=root
        ) from error
    # Two rules may report the same file, such as one that cannot be read.
    unique = {(one.rule, one.model, one.where, one.message): one for one in findings}
    order = {name: number for number, name in enumerate(("", *names))}
    ordered = sorted(unique.values(), key=lambda one: order.get(one.model, len(order)))
    return Preflight(path=root, models=tuple(names), findings=tuple(ordered))


def _check_model(model: Model, models: Mapping[str, Model], release: Release | None) -> list[RepositoryFinding]:
    of_artifacts = [*check_onnx(model), *check_engines(model, release)]
    findings = [*check_files(model), *check_config(model), *check_ensemble(model, models), *of_artifacts]
    if any(one.rule in ("onnx-file", "plan-file") for one in of_artifacts):
        return findings  # a damaged artifact has no hashes to compare
    return [*findings, *check_manifests(model), *check_parameters(model)]

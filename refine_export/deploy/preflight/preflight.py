"""Pre-flight of a model repository: all that a server would refuse, or accept silently, as far as files show it.

    for finding in check_repository(Path("models"), release="26.06").findings:
        print(finding.severity, finding.model, finding.where, finding.message)

`rules_text.RULES` says of each rule what a server makes of it and what to do. Neither a server nor a GPU is needed; the
schema of configs is tritonclient's. Repositories of other makers are checked too: files are data here, and no code of
theirs is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from refine_export.deploy.preflight.repository_reader import Model, read_model, repository_folders, stray_entries
from refine_export.deploy.preflight.rules_config import check_config
from refine_export.deploy.preflight.rules_ensemble import check_ensemble
from refine_export.deploy.preflight.rules_files import model_files
from refine_export.deploy.preflight.rules_hashes import check_deployment, check_manifests, check_parameters
from refine_export.deploy.preflight.rules_onnx import check_onnx
from refine_export.deploy.preflight.rules_plan import check_plans
from refine_export.deploy.preflight.rules_text import Finding, finding
from refine_export.deploy.preflight.rules_warmup import check_warmup
from refine_export.deploy.triton.releases import RELEASES, Release
from refine_export.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found in a repository."""

    models: tuple[str, ...]
    """Their folders' names."""
    findings: tuple[Finding, ...]
    """By model, those of the repository first."""

    @property
    def passed(self) -> bool:
        """Whether there is no error; warnings may be there."""
        return not any(one.severity == "error" for one in self.findings)


def check_repository(root: Path, *, release: str | None = None) -> Checked:
    """Check all models of a repository.

    Args:
        root: the folder that holds the models' folders.
        release: of Triton that is to serve it, such as `26.06`; without one, plans are not compared with its TensorRT.

    Raises:
        RequestError: there is no such folder, or no such release is known.
        UnavailableError: tritonclient is missing.
    """
    known = known_release(release)
    folders = [folder for folder in repository_folders(root) if not _leads_out(folder, root)]
    findings = [*stray_entries(root), *check_deployment(root)]
    if not folders:
        findings.append(finding("no-models", "", "", "it has no folders"))
    models = [model for folder in folders if (model := read_model(folder, root, findings)) is not None]
    by_name = {model.name: model for model in models}
    names = [folder.name for folder in folders]

    rules: Sequence[Callable[[Model], Iterator[Finding]]] = (
        model_files,
        check_config,
        check_warmup,
        check_onnx,
        lambda model: check_plans(model, known),
        check_manifests,
        check_parameters,
        lambda model: check_ensemble(model, by_name, names),
    )
    for model in models:
        for rule in rules:
            try:
                findings += rule(model)
            except (OSError, MemoryError) as error:  # a file that changed or vanished meanwhile, a name that is none
                findings.append(model.found("unreadable", ".", f"it can't be read to the end: {error}"))
    order = {name: number for number, name in enumerate(("", *names))}
    said: dict[object, Finding] = {}
    for one in findings:
        same = (one.rule, one.model, one.where)
        said.setdefault(same if one.rule == "unreadable" else (*same, one.message), one)
    found = sorted(said.values(), key=lambda one: order.get(one.model, len(order)))
    return Checked(models=tuple(names), findings=tuple(found))


def known_release(name: str | None) -> Release | None:
    """A release of Triton by name.

    Raises:
        RequestError: it is not known.
    """
    if name is None:
        return None
    if name not in RELEASES:
        raise RequestError(f"Triton {name} is not known here; expected one of {', '.join(RELEASES)}")
    return RELEASES[name]


def _leads_out(folder: Path, root: Path) -> bool:
    """Whether a folder is a link out of the repository: `stray_entries` says so, and nothing of it is read."""
    return not folder.resolve().is_relative_to(root.resolve())

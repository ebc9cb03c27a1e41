"""`lint`: faults of ONNX files, of any tool, that show on TensorRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refine_export.graph.lint_texts import Finding
from refine_export.graph.linter import lint_file
from refine_export.jobs.load_inputs import AnyPath, paths_of
from refine_export.support.text import json_safe


@dataclass(frozen=True, kw_only=True)
class LintReport:
    """Findings in ONNX files."""

    errors: int
    warnings: int
    findings: Mapping[str, tuple[Finding, ...]] = field(repr=False)
    """Path as given -> findings."""

    @property
    def passed(self) -> bool:
        """Whether there are no errors; warnings are allowed."""
        return not self.errors

    @property
    def notes(self) -> tuple[str, ...]:
        """The findings, one line each."""
        found = [(file, one) for file, findings in self.findings.items() for one in findings]
        return tuple(f"{file}: {one.severity}: {one.message} ({one.rule})" for file, one in found)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings of each file as JSON types."""
        content: dict[str, Any] = json_safe(self.findings)
        return content


def lint(files: AnyPath | Sequence[AnyPath]) -> LintReport:
    """Find nearest sampling, FP16 coordinates, baked-in sizes and other faults that a runtime may not report.

    Args:
        files: ONNX files of any tool, or results of `export` and `lower`.

    Raises:
        GraphError: a file is not ONNX.
        RequestError: no file is given.
    """
    found = {str(path): tuple(lint_file(path)) for path in paths_of(files)}
    severities = [finding.severity for findings in found.values() for finding in findings]
    return LintReport(errors=severities.count("error"), warnings=severities.count("warning"), findings=found)

"""`lint`: faults of ONNX files, of any tool, that show on TensorRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refine_export.artifacts import stacked_signature_of_model
from refine_export.engine.parser_check import ParserAnswer, ask_parser
from refine_export.graph.lint_texts import LintFinding, lint_finding
from refine_export.graph.linter import lint_file
from refine_export.graph.model_file import model_from_file
from refine_export.jobs.load_inputs import AnyPath, paths_of
from refine_export.support.text import json_safe


@dataclass(frozen=True, kw_only=True)
class LintReport:
    """Findings in ONNX files."""

    errors: int
    warnings: int
    findings: Mapping[str, tuple[LintFinding, ...]] = field(repr=False)
    """Path as given -> findings."""
    parser: Mapping[str, ParserAnswer] = field(repr=False)
    """Path as given -> answer of the parser of the TensorRT library that is installed."""

    stacks: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Path as given -> channels, of interpolators with one input, as vs-mlrt has them."""

    @property
    def passed(self) -> bool:
        """True if no finding is an error; warnings are allowed."""
        return not self.errors

    @property
    def notes(self) -> tuple[str, ...]:
        """The findings, one line each, and the parser's conclusion on each file."""
        found = [(file, one) for file, findings in self.findings.items() for one in findings]
        lines = [f"{file}: {one.severity}: {one.message} ({one.rule})" for file, one in found]
        lines += [f"{file}: RIFE with one input, of {n} channels, as in vs-mlrt" for file, n in self.stacks.items()]
        return (*lines, *(f"{file}: {answer.conclusion}" for file, answer in self.parser.items()))

    def to_dict(self) -> dict[str, Any]:
        """Return the findings of each file, and the parser's answer, as JSON types."""
        return {
            file: {"findings": json_safe(findings), "parser": json_safe(self.parser[file])}
            for file, findings in self.findings.items()
        }


def lint(files: AnyPath | Sequence[AnyPath]) -> LintReport:
    """Find nearest sampling, FP16 coordinates, baked-in sizes and other faults that a runtime may not report.

    Where TensorRT or TensorRT for RTX is installed, its own parser is asked too, and what it refuses is a finding.

    Args:
        files: ONNX files of any tool, or results of `export` and `lower`.

    Raises:
        GraphError: a file is not ONNX.
        RequestError: no file is given.
    """
    paths = list(dict.fromkeys(paths_of(files)))
    rules = [lint_file(path) for path in paths]  # checks the files' external data before the parser reads them
    answers = ask_parser(paths)
    found = {
        str(path): (*findings, *_refusals(answer)) for path, findings, answer in zip(paths, rules, answers, strict=True)
    }
    severities = [finding.severity for findings in found.values() for finding in findings]
    return LintReport(
        errors=severities.count("error"),
        warnings=severities.count("warning"),
        findings=found,
        parser=dict(zip(found, answers, strict=True)),
        stacks={
            str(path): int(signature.inputs[0].shape[1])
            for path in paths
            if (signature := stacked_signature_of_model(model_from_file(path))) is not None
        },
    )


def _refusals(answer: ParserAnswer) -> list[LintFinding]:
    return [
        lint_finding(
            "parser-refused",
            fault.node or (f"{fault.operator or 'node'} {fault.index}" if fault.index >= 0 else ""),
            f"{answer.library} refuses {fault.operator or 'the file'}: {fault.reason} ({fault.code})",
        )
        for fault in answer.faults
    ]

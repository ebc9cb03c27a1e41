"""Rule on ensembles: the tensors between the steps have the same type and dims on both sides.

Triton checks the rest itself (BuildEnsembleGraph in src/model_config_utils.cc, ValidateEnsembleConfig in
src/ensemble_utils.cc). It accepts [4] for [N, 4] where one side has a batch and the other has not, and requests fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refine_export.deploy.preflight.findings import Finding
from refine_export.deploy.preflight.repository_reader import Model
from refine_export.deploy.preflight.rules_tensors import full_dims, type_name

_End = tuple[str, str, tuple[int, ...]]
"""One side of a tensor: model, data type, and dims with the batch in front where there is one."""


def check_ensemble(model: Model, models: Mapping[str, Model]) -> Iterator[Finding]:
    """Check the tensors of an ensemble against the models of its steps."""
    ends: dict[str, list[_End]] = {}
    for tensor in (*model.config.input, *model.config.output):
        ends.setdefault(tensor.name, []).append((model.name, type_name(tensor), full_dims(tensor, model)))
    for step in model.config.ensemble_scheduling.step:
        if (part := models.get(step.model_name)) is None:
            continue
        for names, tensors in ((step.input_map, part.config.input), (step.output_map, part.config.output)):
            for tensor in tensors:
                if tensor.name in names:
                    ends.setdefault(names[tensor.name], []).append(_end_of_step(part, tensor))
    for name, sides in ends.items():
        yield from _compare_ends(model, name, sides)


def _end_of_step(part: Model, tensor: Any) -> _End:
    # Without the reshape, which is the model's own affair.
    return part.name, type_name(tensor), (*([-1] if part.batched else []), *tensor.dims)


def _compare_ends(model: Model, name: str, sides: Sequence[_End]) -> Iterator[Finding]:
    (first, data_type, dims), *others = sides
    for other, other_type, other_dims in others:
        if data_type != other_type:
            message = f"{data_type} in {first}, {other_type} in {other}"
            yield model.in_config("ensemble-type", f"tensor {name!r}", message)
        pairs = list(zip(dims, other_dims, strict=False))
        if len(dims) != len(other_dims) or any(a != b and -1 not in (a, b) for a, b in pairs):
            message = f"{list(dims)} in {first}, {list(other_dims)} in {other}"
            yield model.in_config("ensemble-type", f"tensor {name!r}", message)
        else:
            dims = tuple(max(a, b) for a, b in pairs)  # a number that one side fixes holds for the others

"""The probe tells right sampling from wrong in any runtime."""

import numpy as np
import pytest
import torch

from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.sampler_probe import probe_model, sampler_problems


def onnxruntime(**attributes):
    def run(feeds):
        with OrtRunner(probe_model(**attributes)) as runner:
            return runner.run(feeds)

    return run


def torch_sampler(feeds, *, mode="bilinear", padding="border", aligned=True):
    def sample(picture):
        return torch.nn.functional.grid_sample(
            picture, torch.from_numpy(feeds["grid"]), mode=mode, padding_mode=padding, align_corners=aligned
        )

    once = sample(torch.from_numpy(feeds["picture"]))
    return {"once": once.numpy(), "twice": sample(once).numpy()}


WRONG = [
    ({"mode": "nearest"}, ("nearest",)),
    ({"padding": "zeros"}, ("zeros padding",)),
    ({"aligned": False}, ("unaligned corners",)),
    ({"mode": "nearest", "aligned": False}, ("nearest", "unaligned corners")),
]


def test_right_sampling_has_no_problems():
    assert sampler_problems(onnxruntime()) == ()
    assert sampler_problems(torch_sampler) == ()


@pytest.mark.parametrize(("attributes", "problems"), WRONG)
def test_wrong_sampling_is_named(attributes, problems):
    assert sampler_problems(onnxruntime(**attributes)) == problems
    assert sampler_problems(lambda feeds: torch_sampler(feeds, **attributes)) == problems


def test_half_precision_features_pass_and_half_precision_noise_does_not():
    def rounded(feeds):
        return {name: output.astype(np.float16) for name, output in torch_sampler(feeds).items()}

    assert sampler_problems(rounded) == ()
    [problem] = sampler_problems(lambda feeds: {name: value + 0.02 for name, value in rounded(feeds).items()})
    assert "0.02" in problem


@pytest.mark.parametrize("output", [None, np.zeros((1, 2, 3, 3)), np.full((1, 2, 6, 6), np.nan)])
def test_an_answer_of_another_form_is_a_problem(output):
    assert sampler_problems(lambda feeds: {} if output is None else {"once": output, "twice": output})

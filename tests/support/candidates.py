"""What the tests of `validate` compare: a candidate, and a frame."""

import numpy as np

from refine_export.accuracy.limits import LimitsOptions
from refine_export.validate.comparison import Candidate

FRAME = np.full((1, 3, 64, 96), 0.5, np.float32)


def candidate_of(**given):
    return Candidate(file="tested.onnx", limits=LimitsOptions().refine_fp32, **given)

"""Which sizes and feeds files get, and who shares them."""

import dataclasses

import numpy as np
import pytest

from refine_export.data.feeds import PROBE_SIZE
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import sources_from_options
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES, signature_of
from refine_export.validate import feed_plan
from refine_export.validate.feed_plan import (
    notes_on_unused_arrays,
    plan_steps,
    sizes_for,
)
from refine_export.validate.validate_options import ValidateOptions
from tests.support.candidates import candidate_of
from tests.support.gate_reports import artifact
from tests.support.refusals import refused

ANY = dataclasses.replace(artifact(graph="interpolator"), fixed=(None, None, None))
STATIC = dataclasses.replace(ANY, fixed=(1, 64, 64))
ENGINE = dataclasses.replace(ANY, profile=((1, 32, 64), (2, 64, 96), (4, 128, 128)))
OPTIONS = ValidateOptions(sizes=("32x64",))


@pytest.mark.parametrize(
    ("file", "sizes"),
    [
        (ANY, [(1, 64, 96), (1, 32, 64), (2, 96, 160)]),
        (STATIC, [(1, 64, 64)]),
        (dataclasses.replace(ANY, fixed=(None, 64, None)), [(1, 64, 96), (1, 64, 64), (2, 64, 160)]),
        (ENGINE, [(1, 32, 64), (2, 64, 96), (4, 128, 128)]),
    ],
)
def test_a_file_is_fed_at_its_own_sizes_or_at_those_of_the_frames(file, sizes):
    assert list(sizes_for(file, (64, 96), OPTIONS)) == sizes
    assert all(file.accepts(one) for one in sizes)


def test_sizes_are_padded_for_the_network_unless_the_user_gave_them():
    lite = dataclasses.replace(ANY, multiple_of=128)
    assert list(sizes_for(lite, (256, 448), ValidateOptions())) == [(1, 256, 512), (1, 1152, 1920), (2, 128, 256)]
    assert lite.closest_sizes(PROBE_SIZE) == (1, 128, 1920)
    with refused("wrong-size", RequestError, multiple_of=128, padded=(128, 128)):
        list(sizes_for(lite, (256, 448), OPTIONS))


def test_what_a_file_does_not_accept_is_replaced_by_the_closest():
    assert ANY.closest_sizes((64, 96)) == ENGINE.closest_sizes((64, 96)) == (1, 64, 96)
    assert STATIC.closest_sizes((64, 96)) == (1, 64, 64)
    assert ENGINE.closest_sizes((64, 1920)) == (2, 64, 96)
    assert not STATIC.accepts((1, 64, 96))
    assert not ENGINE.accepts((1, 64, 1920))


def test_files_of_one_size_share_a_step_and_frames_and_arrays_follow_the_first_pair(references, tmp_path):
    path = tmp_path / "own.npz"
    picture = np.full((1, 3, 32, 32), 0.5, np.float32)
    np.savez(path, img0=picture, img1=picture)
    scene = SceneOptions(height=60, width=90, motion_px=4)
    static, dynamic = (candidate_of(runtime=name, runner=None) for name in ("static", "dynamic"))
    files = [(STATIC, [static]), (dataclasses.replace(ANY, fixed=(1, None, None)), [dynamic])]

    def steps(frames):
        sources = sources_from_options(frames, scene)
        return sources, [
            (step.sizes, [one.runtime for one in step.candidates], step.own_size, [feed.size for feed in step.feeds])
            for step in plan_steps(references("IFNet"), SIGNATURES["interpolator"], files, sources, OPTIONS)
        ]

    _, drawn = steps(FramesOptions(scene_frames=3))
    first = [
        ((1, 64, 64), ["static"], False, [(64, 64)]),
        ((1, 64, 96), ["dynamic"], True, [(64, 96)]),
        ((1, 32, 64), ["dynamic"], False, [(32, 64)]),
    ]
    probe = [((1, 64, 64), ["static"], False, [(64, 64)]), ((1, 64, 1920), ["dynamic"], False, [(64, 1920)])]
    assert drawn == first + probe + first[:2] * 2  # two pairs of the clip, each at its own size or the closest
    sources, arrays = steps(FramesOptions(inputs=(str(path),)))
    assert arrays == [*probe, ((1, 32, 32), ["dynamic"], False, [(32, 32)])]
    assert len(notes_on_unused_arrays(STATIC, sources)) == 1
    assert notes_on_unused_arrays(ANY, sources) == []


@pytest.mark.parametrize(("frames", "ends"), [(2, ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]), (3, None)])
def test_steps_are_counted_where_their_number_is_known(references, frames, ends):
    sources = sources_from_options(FramesOptions(scene_frames=frames), SceneOptions(height=64, width=96, motion_px=4))
    files = [(ANY, [candidate_of(runtime="x", runner=None)])]
    plan = plan_steps(references("IFNet"), SIGNATURES["interpolator"], files, sources, OPTIONS)
    labels = [step.label for step in plan]
    assert [label.split()[-1] for label in labels] == ends if ends else not any("[" in label for label in labels)


def test_large_sizes_get_the_feeds_that_show_something_new(references, monkeypatch):
    """Frames of that size, and a file of that size alone, get all."""
    monkeypatch.setattr(feed_plan, "LARGE_PIXELS", 64 * 96)
    dynamic, static = (
        (replace, [candidate_of(runtime="x", runner=None)])
        for replace in (ANY, dataclasses.replace(ANY, fixed=(1, 96, 128)))
    )
    sources = sources_from_options(FramesOptions(scene_frames=2), SceneOptions(height=64, width=96, motion_px=4))
    signature = signature_of("interpolator", timestep=True)

    def steps(*files, **options):
        options = ValidateOptions(sizes=("96x128",), **options)
        plan = plan_steps(references("IFNet"), signature, files, sources, options)
        [step] = [step for step in plan if step.sizes == (1, 96, 128)][:1]
        return [feed.name.rpartition(" ")[2] for feed in step.feeds], bool(step.note)

    assert steps(dynamic) == (["0.2"], True)
    assert steps(dynamic, timesteps=(0.5,)) == (["0.5"], False)  # nothing is left out
    assert steps(static) == steps(dynamic, static) == (["0.5", "0.2"], False)

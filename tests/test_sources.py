"""Sources: folders, videos, pictures by twos, arrays and the scene give pairs one at a time, or a clear refusal."""

import functools
import gc
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from refine_export import video
from refine_export.errors import FrameError, RequestError, UnavailableError
from refine_export.npz_feeds import feeds_of_arrays, graph_of_npz
from refine_export.scenes import SceneOptions
from refine_export.signature import SIGNATURES
from refine_export.source import FramesOptions, source_from_options, sources_from_options

SCENE = SceneOptions(height=64, width=96, motion_px=6.0)


def sources_of(*inputs, scene=SCENE, **options):
    return sources_from_options(FramesOptions(inputs=tuple(map(str, inputs)), **options), scene)


def pixels(number, size=(40, 60)):
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def folder_of(folder, names, size=(40, 60)):
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(pixels(number, size)).save(folder / name)
    return folder


def video_of(path, frames, codec="ffv1", layout="bgr0", rotation=None, matrix=None, full_range=None):
    """A video of [H, W, 3] pictures; FFV1 of bgr0 keeps every bit."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = layout
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for pixel in frames:
            ranges = {} if full_range is None else {"dst_color_range": 2 if full_range else 1}
            spaces = {} if matrix is None else {"dst_colorspace": matrix}
            frame = av.VideoFrame.from_ndarray(pixel, format="rgb24").reformat(format=layout, **ranges, **spaces)
            if full_range is not None:
                stream.codec_context.color_range = frame.color_range = 2 if full_range else 1
            if matrix is not None:
                stream.codec_context.colorspace = frame.colorspace = matrix
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown(frame):
    return np.rint(np.moveaxis(frame[0], 0, -1) * 255).astype(np.uint8)


def test_the_scene_is_a_pair_and_a_sequence():
    """Its ends with the middle frame, then frames at t = 0, 1/3, 2/3, 1 as consecutive ones; drawn only once."""
    sources = sources_of()
    found = list(sources.pairs())
    assert [(sequence, index) for _, sequence, index in found] == [(None, 0), ("scene", 0), ("scene", 1), ("scene", 2)]
    whole, *steps = (pair for pair, _, _ in found)
    assert whole is sources.first.pair
    assert whole.middle is not None
    assert np.array_equal(steps[0].img0, whole.img0)
    assert np.array_equal(steps[2].img1, whole.img1)
    assert steps[0].img1 is steps[1].img0
    assert not np.array_equal(steps[0].img0, steps[0].img1)
    assert [pair.name for pair in steps] == ["scene frames 0-1", "scene frames 1-2", "scene frames 2-3"]
    assert sources.first.at((96, 64)).size == (96, 64)
    assert sources.notes == ()
    assert [sequence for _, sequence, _ in sources_of(scene_frames=2).pairs()] == [None]


def test_two_pictures_are_one_pair(tmp_path):
    folder = folder_of(tmp_path / "f", ["a.png", "bb.png"])
    options = FramesOptions(pair=(str(folder / "a.png"), str(folder / "bb.png")))
    sources = sources_from_options(options, SCENE)
    ((pair, sequence, index),) = sources.pairs()
    assert (pair.name, sequence, index, pair.size) == ("a.png and bb.png", None, 0, (40, 60))
    assert np.array_equal(shown(pair.img1), pixels(1))
    assert pair.sha256 == sources.first.pair.sha256 == source_from_options(options, SCENE).pair.sha256
    assert sources.first.at((64, 96)).size == (64, 96)


def test_a_folder_is_sorted_by_its_numbers(tmp_path):
    """frame2 before frame10; what is no picture is left out, and that is said."""
    names = ["frame10.png", "frame2.png", "Frame1.PNG", "frame02.png"]
    folder = folder_of(tmp_path / "clip", names)
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_text("x")
    sources = sources_of(folder)
    found = list(sources.pairs())
    order = ["Frame1.PNG", "frame02.png", "frame2.png", "frame10.png"]
    expected = [pixels(names.index(name)) for name in order]
    for k, (pair, sequence, index) in enumerate(found):
        assert (pair.name, sequence, index) == (f"clip frames {k}-{k + 1}", "clip", k)
        assert np.array_equal(shown(pair.img0), expected[k])
        assert np.array_equal(shown(pair.img1), expected[k + 1])
    assert len(found) == 3
    assert found[0][0].sha256 == sources.first.pair.sha256
    assert sources.notes == (
        "clip: 1 of its 5 entries are no pictures by their names, and are left out.",
        "The frames of 40x60 are padded to 64x64 for the networks; places count from the top left.",
    )


def test_pairs_are_limited_and_thinned(tmp_path, monkeypatch):
    """every=2 takes the pairs 0, 2, 4: no two follow one another; frames of no pair are not decoded."""
    folder = folder_of(tmp_path / "clip", [f"{k}.png" for k in range(8)])

    def indices(**options):
        return [index for _, _, index in sources_of(folder, **options).pairs()]

    assert indices() == list(range(7))
    assert indices(max_pairs=2) == [0, 1]
    assert indices(every=2) == [0, 2, 4, 6]
    assert indices(every=3, max_pairs=2) == [0, 3]
    assert indices(every=50) == [0]
    sources = sources_of(folder, every=5)
    read = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **options: (read.append(path.name), real(path, **options))[1])
    list(sources.pairs())
    assert read == ["0.png", "1.png", "5.png", "6.png"]


def test_a_video_gives_every_frame_exactly(tmp_path):
    frames = [pixels(k, (48, 80)) for k in range(6)]
    sources = sources_of(video_of(tmp_path / "clip.mkv", frames))
    for _ in range(2):
        found = list(sources.pairs())
        assert [pair.name for pair, _, _ in found] == [f"clip.mkv frames {k}-{k + 1}" for k in range(5)]
        assert [(sequence, index) for _, sequence, index in found] == [("clip.mkv", k) for k in range(5)]
        for k, (pair, _, _) in enumerate(found):
            assert np.array_equal(shown(pair.img0), frames[k])
            assert np.array_equal(shown(pair.img1), frames[k + 1])
    assert [index for _, _, index in sources_of(tmp_path / "clip.mkv", max_pairs=2).pairs()] == [0, 1]


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9], ids=["BT.709", "BT.601", "BT.2020"])
def test_colours_are_those_that_were_encoded(tmp_path, matrix, full_range):
    """In YUV 4:4:4 of either range and any matrix, to 3 of 255; the wrong matrix or range is 10 or more off."""
    colours = np.array([[(200, 60, 20), (20, 180, 240)], [(16, 16, 16), (250, 250, 250)]], np.uint8)
    frame = colours.repeat(32, axis=0).repeat(48, axis=1)
    path = video_of(tmp_path / "clip.mkv", [frame, frame], "ffv1", "yuv444p", matrix=matrix, full_range=full_range)
    sources = sources_of(path)
    assert np.abs(shown(sources.first.pair.img0).astype(int) - frame).max() <= 3
    assert sources.notes == ()


def test_colours_of_a_video_are_not_darker_than_it_says(tmp_path):
    """Grey is (Y - 16) * 255 / 219 where chroma is 128, whatever the scaler's defaults make of it."""
    luma = np.tile(np.arange(16, 236, dtype=np.uint8), (16, 1))
    planes = np.concatenate([luma.ravel(), np.full(luma.size // 2, 128, np.uint8)]).reshape(24, 220)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    path = tmp_path / "ramp.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 220, "yuv420p"
        for one in (frame, frame, None):
            container.mux(stream.encode(one))
    picture = sources_of(path).first.pair.img0[0] * 255
    error = picture - (luma.astype(np.float64) - 16) * 255 / 219
    assert abs(error.mean()) < 0.1
    assert np.abs(error).max() <= 1


@pytest.mark.parametrize(("size", "matrix", "said"), [((64, 96), 5, "BT.601"), ((64, 1280), 1, "BT.709")])
def test_a_matrix_that_is_not_named_is_guessed_and_said(tmp_path, size, matrix, said):
    frame = np.full((*size, 3), (200, 60, 20), np.uint8)
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p", dst_colorspace=matrix)] * 2
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        (stream.height, stream.width), stream.pix_fmt = size, "yuv444p"
        for one in frames:
            one.colorspace = 2
            container.mux(stream.encode(one))
        container.mux(stream.encode(None))
    sources = sources_of(path)
    assert np.abs(shown(sources.first.pair.img0).astype(int) - frame).max() <= 3
    assert [note for note in sources.notes if f"it names no colour matrix; {said} is taken" in note]


@pytest.mark.parametrize(("degrees", "corner"), [(90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))])
def test_a_turned_video_is_turned_back_and_said(tmp_path, degrees, corner):
    """Counter-clockwise, as FFmpeg counts: the red top left corner goes to the bottom left at 90 degrees."""
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:16, :16] = (255, 0, 0)
    sources = sources_of(video_of(tmp_path / "clip.mov", [frame] * 2, "libx264", "yuv420p", rotation=degrees))
    picture = shown(sources.first.pair.img0)
    assert picture.shape[:2] == ((64, 96) if degrees == 180 else (96, 64))
    assert picture[corner][0] > 200
    assert (picture[..., 0] > 128).mean() < 0.06
    assert [note for note in sources.notes if "turned by" in note]


def test_what_a_video_loses_is_said(tmp_path):
    frames = [pixels(k, (64, 96)) for k in range(3)]
    for codec, layout, note in (
        ("ffv1", "yuv420p10le", "10 bits a channel are read as 8"),
        ("ffv1", "gray", "grey is given to all three channels"),
        ("ffv1", "bgra", "its alpha channel is left out"),
    ):
        sources = sources_of(video_of(tmp_path / f"{layout}.mkv", frames, codec, layout))
        assert len(list(sources.pairs())) == 2
        assert [said for said in sources.notes if said.startswith(f"{layout}.mkv: ") and note in said], layout


def test_odd_sizes_are_padded_and_said_once(tmp_path):
    frames = [pixels(k, (41, 61)) for k in range(4)]
    sources = sources_of(video_of(tmp_path / "clip.mkv", frames))
    assert {pair.size for pair, _, _ in sources.pairs()} == {(41, 61)}
    assert sources.notes == (
        "The frames of 41x61 are padded to 64x64 for the networks; places count from the top left.",
    )


def test_a_broken_video_is_an_error(tmp_path):
    """Cut in every way, or no video: refused when it is opened or at the frame where it ends, never shortened."""
    frames = [pixels(k, (64, 96)) for k in range(10)]
    for name, codec, layout in (
        ("a.mkv", "ffv1", "bgr0"),
        ("b.mp4", "libx264", "yuv420p"),
        ("c.avi", "mpeg4", "yuv420p"),
    ):
        whole = video_of(tmp_path / name, frames, codec, layout).read_bytes()
        assert len(list(sources_of(tmp_path / name).pairs())) == 9
        for share in (0.0, 0.3, 0.6, 0.9):
            cut = tmp_path / f"cut_{share}_{name}"
            cut.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(FrameError, match=r"truncated|broken|no video"):
                list(sources_of(cut).pairs())
    with pytest.raises(FrameError, match=r"cut_0.6_c.avi is broken at frame 2; .* max_pairs"):
        list(sources_of(tmp_path / "cut_0.6_c.avi").pairs())
    assert len(list(sources_of(tmp_path / "cut_0.6_c.avi", max_pairs=1).pairs())) == 1


def test_videos_that_are_refused(tmp_path, monkeypatch):
    frames = [pixels(k, (64, 96)) for k in range(3)]
    good = video_of(tmp_path / "good.mkv", frames)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {good.name}\n")
    (tmp_path / "list.ts").write_text(f"#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    video_of(tmp_path / "one.mkv", frames[:1])
    for name, message in (
        ("text.mp4", "text.mp4 can't be decoded"),
        ("list.mp4", "list.mp4 can't be decoded"),
        ("list.ts", "list.ts can't be decoded"),
        ("sound.mkv", "sound.mkv has no video that can be decoded"),
        ("absent.mp4", "absent.mp4 does not exist"),
        ("one.mkv", "one.mkv has one frame; expected two or more"),
    ):
        with pytest.raises(FrameError, match=message):
            sources_of(tmp_path / name)
    monkeypatch.setattr(video, "LARGEST_SIDE", 95)
    with pytest.raises(FrameError, match="is 96x64; expected at most 95 pixels a side"):
        sources_of(good)
    monkeypatch.setattr(video, "LARGEST_SIDE", 96)
    monkeypatch.setattr(video, "LARGEST_PIXELS", 96 * 63)
    with pytest.raises(FrameError, match="can't be decoded"):
        sources_of(good)


def test_a_video_that_changes_its_size_is_refused(tmp_path):
    """Two H.264 streams of two sizes, one after the other, in one transport stream."""
    for name, size in (("a.ts", (64, 96)), ("b.ts", (96, 64))):
        video_of(tmp_path / name, [pixels(k, size) for k in range(3)], "libx264", "yuv420p")
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with pytest.raises(FrameError, match=r"both.ts: frame \d is 64x96, those before are 96x64"):
        list(sources_of(tmp_path / "both.ts").pairs())


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    path = video_of(tmp_path / "clip.mkv", [pixels(k) for k in range(2)])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnavailableError, match=r"pip install 'refine-export\[video\]'"):
        sources_of(path)


def test_folders_that_are_refused(tmp_path):
    folder_of(tmp_path / "empty", [])
    folder_of(tmp_path / "one", ["a.png"])
    folder_of(tmp_path / "text", [])
    (tmp_path / "text" / "a.txt").write_text("x")
    for name in ("unequal", "no_picture", "cut"):
        folder_of(tmp_path / name, ["1.png", "2.png"])
    Image.fromarray(pixels(3, (40, 99))).save(tmp_path / "unequal" / "3.png")
    (tmp_path / "no_picture" / "3.png").write_text("x")
    for name, message in (
        ("empty", r"empty has no pictures; expected two frames or more, as .png"),
        ("text", "text has no pictures"),
        ("one", "one has one picture, a.png; expected two"),
        ("unequal", "differ in size: 1.png is 60x40, 3.png is 99x40; keep those of one size"),
        ("no_picture", "3.png is no picture that can be read"),
        ("absent", "absent is one picture; give two|does not exist"),
    ):
        with pytest.raises(FrameError, match=message):
            sources_of(tmp_path / name)


def test_what_is_found_on_the_way(tmp_path):
    """Damage behind a header, and a file that is overwritten meanwhile: an error at their pair, not before."""
    folder = folder_of(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    whole = (folder / "2.png").read_bytes()
    (folder / "3.png").write_bytes(whole[:3000])
    pairs = sources_of(folder).pairs()
    next(pairs)
    with pytest.raises(FrameError, match="3.png can't be read as a picture"):
        next(pairs)
    (folder / "3.png").write_bytes(whole)
    sources = sources_of(folder)
    Image.fromarray(pixels(3, (40, 99))).save(folder / "3.png")
    with pytest.raises(FrameError, match="the frames of clip frames 1-2 differ in size"):
        list(sources.pairs())


def test_pictures_that_make_no_pair(tmp_path):
    folder = folder_of(tmp_path / "f", ["a.png", "b.png", "c.png"])
    Image.fromarray(pixels(0, (40, 99))).save(folder / "wide.png")
    for names, message in (
        (("a.png",), "a.png is one picture; give two that follow one another"),
        (("a.png", "b.png", "c.png"), "c.png is one picture"),
        (("a.png", "", "b.png"), "a.png is one picture"),
        (("a.png", "wide.png"), "differ in size: a.png is 60x40, wide.png is 99x40"),
    ):
        with pytest.raises(FrameError, match=message):
            sources_of(*(folder / name for name in names))
    for second, message in ((folder, "is a directory; give a picture file"), (folder / "x.mp4", "does not exist")):
        with pytest.raises(FrameError, match=message):
            sources_from_options(FramesOptions(pair=(str(folder / "a.png"), str(second))), SCENE)


def test_all_kinds_together(tmp_path):
    """Names are unique though files share theirs; notes do not repeat; the first pair is that of the first input."""
    for side in ("x", "y"):
        (tmp_path / side).mkdir()
        folder_of(tmp_path / side / "clip", [f"{k}.png" for k in range(3)])
        video_of(tmp_path / side / "clip.mkv", [pixels(k) for k in range(3)])
    picture = tmp_path / "grey.png"
    Image.fromarray(pixels(0)).convert("L").save(picture)
    sources = sources_of(
        *(tmp_path / side / name for side in ("x", "y") for name in ("clip", "clip.mkv")), picture, picture
    )
    found = list(sources.pairs())
    names = [pair.name for pair, _, _ in found]
    assert len(set(names)) == len(names) == 9
    assert names[::2] == [
        "clip frames 0-1",
        "clip.mkv frames 0-1",
        "clip (2) frames 0-1",
        "clip.mkv (2) frames 0-1",
        "grey.png and grey.png (2)",
    ]
    assert sources.first.pair.name == names[0]
    before = sources.notes
    list(sources.pairs())
    assert sources.notes == before
    assert [note for note in before if note.startswith("grey.png: grey is")]


def test_the_hash_is_of_the_files_and_the_options(tmp_path):
    folder = folder_of(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    known = {sources_of(folder).sha256, sources_of(folder, max_pairs=1).sha256, sources_of(folder, every=2).sha256}
    assert sources_of(folder).sha256 in known
    Image.fromarray(pixels(9)).save(folder / "2.png")
    known |= {sources_of(folder).sha256}
    (folder / "3.png").rename(folder / "4.png")
    known |= {sources_of(folder).sha256, sources_of().sha256, sources_of(scene_frames=3).sha256}
    known |= {sources_of(scene=SceneOptions(height=64, width=96, seed=1)).sha256}
    assert len(known) == 8
    sources = sources_of(folder)
    (folder / "4.png").unlink()
    with pytest.raises(FrameError, match="can't read .*4.png"):
        sources.sha256  # noqa: B018


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_memory_does_not_grow_with_the_frames(tmp_path, kind):
    """200 frames peak where 20 do: three pairs' worth of arrays or less, though a tenth of them would be ten times."""
    count, size = 200, (64, 96)
    if kind == "folder":
        path = folder_of(tmp_path / "clip", [f"{k}.png" for k in range(count)], size)
    else:
        path = video_of(tmp_path / "clip.mkv", [pixels(k, size) for k in range(count)])

    def peak(pairs):
        sources = sources_of(path, max_pairs=pairs)
        gc.collect()
        tracemalloc.start()
        try:
            seen = sum(1 for _ in sources.pairs())
            return seen, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(3)
    few, of_few = peak(20)
    many, of_many = peak(None)
    frame = 3 * 4 * size[0] * size[1]
    assert (few, many) == (20, count - 1)
    assert of_many < of_few + frame
    assert frame < of_many < 10 * frame


@functools.cache
def arrays_of(graph, batch=1, height=64, width=96):
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.random(spec.shape_at(batch, height, width), np.float32)
        for spec in SIGNATURES[graph].inputs
    }


def npz(path: Path, arrays) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("graph", list(SIGNATURES))
def test_arrays_are_the_feeds_of_their_graph(tmp_path, graph):
    """The names tell the graph; files of others are passed over; the numbers are the file's own."""
    paths = [npz(tmp_path / f"{name}.npz", arrays_of(name, batch=2)) for name in SIGNATURES]
    sources = sources_of(*paths)
    assert sources.arrays == tuple(paths)
    assert list(sources.pairs()) == []
    assert sources.first.pair.middle is not None
    (feed,) = feeds_of_arrays(sources.arrays, graph)
    assert feed.name == f"{graph} 2x64x96, {graph}.npz"
    assert (feed.size, feed.sequence) == ((64, 96), None)
    assert list(feed.inputs) == list(SIGNATURES[graph].input_names)
    for name, array in feed.inputs.items():
        assert np.array_equal(array, arrays_of(graph, batch=2)[name])
    assert (feed.largest_flow_px is not None) == ("flow" in feed.inputs)


def test_arrays_beside_frames(tmp_path):
    folder = folder_of(tmp_path / "clip", ["1.png", "2.png"])
    sources = sources_of(npz(tmp_path / "a.npz", arrays_of("refine")), folder)
    assert [pair.name for pair, _, _ in sources.pairs()] == ["clip frames 0-1"]
    assert sources.first.pair.name == "clip frames 0-1"
    assert len(sources.arrays) == 1


def test_arrays_of_other_types_are_converted(tmp_path):
    path = npz(tmp_path / "a.npz", {name: array.astype(np.float64) for name, array in arrays_of("refine").items()})
    (feed,) = feeds_of_arrays([path], "refine")
    assert {array.dtype for array in feed.inputs.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flow": None}, "has arrays named img0, img1, .*; expected those of one graph .*refine: img0"),
        ({"extra": np.zeros(3)}, "has arrays named extra, flow"),
        (
            {"flow": np.zeros((1, 4, 64, 64), np.float32)},
            r"flow is \[1, 4, 64, 64\]; expected \[1, 4, 64, 96\], as img0",
        ),
        ({"flow": np.zeros((1, 2, 64, 96), np.float32)}, r"flow is \[1, 2, 64, 96\]; expected \[1, 4, 'H', 'W'\]|mend"),
        ({"mask": np.zeros((2, 1, 64, 96), np.float32)}, r"mask is \[2, 1, 64, 96\]; expected \[1, 1, 64, 96\]"),
        ({"mask": np.full((1, 1, 64, 96), "x")}, "mask is <U1; expected numbers"),
        ({"mask": np.full((1, 1, 64, 96), np.nan)}, "mask has NaN"),
    ],
)
def test_arrays_that_are_refused(tmp_path, change, message):
    arrays = {name: array for name, array in (arrays_of("refine") | change).items() if array is not None}
    with pytest.raises(RequestError, match=message):
        list(feeds_of_arrays(sources_of(npz(tmp_path / "a.npz", arrays)).arrays, "refine"))


def test_arrays_of_an_odd_size_or_no_batch_are_refused(tmp_path):
    odd = npz(tmp_path / "odd.npz", {name: np.zeros((1, 3, 60, 96), np.float32) for name in ("img0", "img1")})
    none = npz(tmp_path / "none.npz", {name: np.zeros((0, 3, 64, 96), np.float32) for name in ("img0", "img1")})
    for path in (odd, none):
        with pytest.raises(RequestError, match="expected one or more, with sides that are multiples of 32: pad"):
            list(feeds_of_arrays([path], "interpolator"))


def test_files_that_are_no_arrays(tmp_path):
    (tmp_path / "text.npz").write_text("x")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = npz(tmp_path / "a.npz", arrays_of("refine")).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-100])
    for name, message in (
        ("text.npz", "is no .npz, or truncated"),
        ("empty.npz", "is no .npz, or truncated"),
        ("cut.npz", "is no .npz, or truncated"),
        ("absent.npz", "absent.npz does not exist or is no file"),
    ):
        with pytest.raises(RequestError, match=message):
            graph_of_npz(tmp_path / name)
        with pytest.raises(RequestError, match=message):
            sources_of(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pair": ("a",)}, "pair has 1 files"),
        ({"max_pairs": 0}, "max_pairs is 0; expected 1 or more"),
        ({"every": 0}, "every is 0"),
        ({"scene_frames": 1}, "scene_frames is 1; expected 2 to 64"),
        ({"scene_frames": 65}, "scene_frames is 65"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        FramesOptions(**options)

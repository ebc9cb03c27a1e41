"""Sources: videos give every frame exactly, or say what is lost; a broken one is refused."""

import sys

import av
import numpy as np
import pytest

from refine_export.data import video
from refine_export.data.images import padded
from refine_export.errors import FrameError, UnavailableError
from tests.support.refusals import refused
from tests.support.source_files import pixels, shown, sources_of, video_of


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
    path = video_of(tmp_path / "clip.mkv", [frame, frame], "ffv1", "yuv444p", matrix=matrix, full=full_range)
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
    sources = sources_of(video_of(tmp_path / "clip.mkv", [frame] * 2, layout="yuv444p", matrix=matrix, tagged=False))
    assert np.abs(shown(sources.first.pair.img0).astype(int) - frame).max() <= 3
    assert [note for note in sources.notes if f"no colour matrix is stated; {said} is taken" in note]


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
    for pair, _, _ in sources.pairs():
        assert pair.size == (41, 61)
        sources.note_padding(pair, padded(pair, 32))
    assert sources.notes == (
        "The frames of 41x61 are padded to 64x64 for the networks; positions count from the top left.",
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
            with pytest.raises(FrameError) as caught:
                list(sources_of(cut).pairs())
            assert caught.value.code in ("video-undecodable", "video-broken", "video-truncated")
    with refused("video-broken", FrameError, frame=2):
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
    for name, code in (
        ("text.mp4", "video-undecodable"),
        ("list.mp4", "video-undecodable"),
        ("list.ts", "video-undecodable"),
        ("sound.mkv", "no-video"),
        ("absent.mp4", "not-found"),
    ):
        with refused(code, FrameError):
            sources_of(tmp_path / name)
    with pytest.raises(FrameError, match="one frame"):
        sources_of(tmp_path / "one.mkv")
    monkeypatch.setattr(video, "LARGEST_SIDE", 95)
    with refused("frame-too-large", FrameError):
        sources_of(good)
    monkeypatch.setattr(video, "LARGEST_SIDE", 96)
    monkeypatch.setattr(video, "LARGEST_PIXELS", 96 * 63)
    with refused("video-undecodable", FrameError):
        sources_of(good)


def test_a_video_that_changes_its_size_is_refused(tmp_path):
    """Two H.264 streams of two sizes, one after the other, in one transport stream."""
    for name, size in (("a.ts", (64, 96)), ("b.ts", (96, 64))):
        video_of(tmp_path / name, [pixels(k, size) for k in range(3)], "libx264", "yuv420p")
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with refused("frame-size-changes", FrameError):
        list(sources_of(tmp_path / "both.ts").pairs())


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    path = video_of(tmp_path / "clip.mkv", [pixels(k) for k in range(2)])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnavailableError) as caught:
        sources_of(path)
    assert caught.value.fields == {"module": "av", "extra": "video"}

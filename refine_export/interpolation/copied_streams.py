"""Sound, subtitles, chapters, cover art and attachments of a video; copied, or slowed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from refine_export.data.video import VideoDecoder
from refine_export.errors import FrameError, RequestError
from refine_export.support.imports import require

METADATA = ("title", "artist", "album", "date", "comment", "copyright", "description", "genre", "creation_time")
STREAM_METADATA = ("language", "title")
"""Metadata that is kept of the source's; the rest says how that file was made."""
SLOWEST_ATEMPO = 0.5
"""The least tempo of FFmpeg's filter; slower is done in several steps."""
COVER_SUFFIXES = {"mjpeg": "jpg", "png": "png", "bmp": "bmp", "gif": "gif"}


class CopiedStreams:
    """Streams of an open video that go into an output as they are.

    Args:
        video: open, and not read; it is read to its end when the output is written.
        output: the name of the output, for messages.
        audio: take the sound.
        stretch: seconds of the output for one of the video.
    """

    def __init__(self, video: VideoDecoder, output: Path, *, audio: bool, stretch: Fraction) -> None:
        self._video, self._output, self._audio, self._stretch = video, output, audio, stretch
        self._container = video.container
        self.notes: list[str] = []
        """Streams that are left out."""
        self._handlers: dict[int, Callable[[Any], Iterator[Any]]] = {}
        self.sound = [stream for stream in self._container.streams if stream.type == "audio"]
        self._early: list[Any] = []

    def add_to(self, container: Any) -> None:
        """Add the streams to an output, whose header is not written yet.

        Raises:
            RequestError: it cannot hold a stream of sound.
            FrameError: `stream-damaged`; sound that cannot be decoded.
        """
        left_out: list[str] = []
        for stream in self._container.streams:
            if stream.index == self._video.stream.index:
                continue
            handler = self._added(container, stream)
            if handler is not None:
                self._handlers[stream.index] = handler
            elif stream.type not in ("audio", "attachment", "data"):  # MP4 has the titles of its chapters as data
                left_out.append(f"{stream.type} ({_codec_name(stream)})")
        if left_out:
            named = ", ".join(f"{left_out.count(one)} {one}" for one in sorted(set(left_out)))
            self.notes.append(f"left out: {named}")
        if self.sound and not self._audio:
            self.notes.append("its sound is left out, as asked for")
        container.metadata.update(kept_metadata(self._container.metadata, METADATA))
        container.set_chapters([self._slowed_chapter(one) for one in self._container.chapters()])

    def packets(self) -> Iterator[Any]:
        """Read the packets of the streams, each with the stream that it goes to."""
        for packet in (*self._early, *self._container.demux()):
            handler = self._handlers.get(packet.stream.index)
            if handler is not None:
                yield from handler(packet)

    def refused(self, what: str) -> RequestError:
        """Build the error of sound that the output cannot hold."""
        other = "" if self._output.suffix.lower() == ".mkv" else "write .mkv, or "
        return RequestError(
            f"{self._output.suffix} files cannot hold the sound in {self._video.path} as it is ({what}); {other}leave "
            "the sound out with --no-audio",
            code="sound-not-in-container",
            path=self._video.path,
        )

    def damaged(self, error: Any) -> FrameError:
        """Build the error of streams that FFmpeg refuses as it copies them."""
        named = ", ".join(dict.fromkeys(f"{one.type} ({_codec_name(one)})" for one in self.taken))
        advice = ", or leave the sound out with --no-audio" * any(one.type == "audio" for one in self.taken)
        problem = f"has {named}, which cannot be copied into {self._output.suffix} ({error.strerror}): the header or a "
        problem += f"packet is damaged; copy or make it again{advice}"
        return FrameError.about(self._video.path, "stream-damaged", problem)

    @property
    def taken(self) -> list[Any]:
        """The streams that are copied."""
        return [stream for stream in self._container.streams if stream.index in self._handlers]

    @property
    def codecs_of_sound(self) -> str:
        """Names of the codecs, for messages."""
        return ", ".join(dict.fromkeys(map(_codec_name, self.sound)))

    def _added(self, container: Any, stream: Any) -> Callable[[Any], Iterator[Any]] | None:
        """Add a stream, and return what makes the output's packets of its own; None where it is left out."""
        if stream.type == "audio":
            return self._sound(container, stream) if self._audio else None
        if stream.type == "attachment":
            if container.format.name == "matroska":
                copy = container.add_attachment(
                    stream.metadata.get("filename", "attachment"), stream.mimetype or "", stream.data
                )
                copy.metadata.update(kept_metadata(stream.metadata))
            return None
        if stream.type == "video" and stream.disposition & type(stream.disposition).attached_pic:
            return self._cover(container, stream)
        if stream.type == "subtitle" and stream.codec_context and _codec_name(stream) in container.supported_codecs:
            return self._copy(container, stream)
        return None

    def _copy(self, container: Any, stream: Any) -> Callable[[Any], Iterator[Any]]:
        copy = container.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(kept_metadata(stream.metadata))
        copy.disposition = stream.disposition

        def packets(packet: Any) -> Iterator[Any]:
            if not packet.size:
                return
            if self._stretch != 1:
                packet.pts, packet.dts, packet.duration = (
                    None if time is None else round(time * self._stretch)
                    for time in (packet.pts, packet.dts, packet.duration)
                )
            packet.stream = copy
            yield packet

        return packets

    def _sound(self, container: Any, stream: Any) -> Callable[[Any], Iterator[Any]]:
        name = _codec_name(stream)
        if stream.codec_context is None:
            raise self.refused(f"{name}, stream {self.sound.index(stream)}")
        if not stream.codec_context.layout.nb_channels:
            problem = (
                f"has sound ({name}, stream {self.sound.index(stream)}) that cannot be decoded: its header is damaged, "
            )
            problem += "or it has no packets; copy or make it again, or leave the sound out with --no-audio"
            raise FrameError.about(self._video.path, "stream-damaged", problem)
        if self._stretch != 1:
            return self._stretched(container, stream)
        layout = str(stream.codec_context.layout.name)
        # MP4 has to name the place of each channel; without this check it would fail when all else is written
        nameless = container.format.name == "mp4" and name.startswith("pcm_") and layout.endswith("channels")
        if name not in container.supported_codecs or nameless:
            raise self.refused(f"{name}, {layout}, stream {self.sound.index(stream)}")
        return self._copy(container, stream)

    def _stretched(self, container: Any, stream: Any) -> Callable[[Any], Iterator[Any]]:
        """Slow sound without changing its pitch, and encode it again."""
        av = require("av", extra="video")
        context = stream.codec_context
        opus = container.format.name == "webm"
        rate = 48000 if opus else context.sample_rate
        copy = container.add_stream("libopus" if opus else "aac", rate=rate, layout=context.layout.name)
        copy.codec_context.bit_rate = 96000 * len(context.layout.channels)
        copy.metadata.update(kept_metadata(stream.metadata))
        graph = av.filter.Graph()
        steps = math.ceil(math.log(self._stretch) / math.log(1 / SLOWEST_ATEMPO) - 1e-9)
        tempo = str(float(self._stretch) ** (-1 / steps))
        chain = [graph.add_abuffer(template=stream), *(graph.add("atempo", tempo) for _ in range(steps))]
        graph.link_nodes(*chain, graph.add("abuffersink")).configure()

        def packets(packet: Any) -> Iterator[Any]:
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                at = 0.0 if packet.pts is None else float(packet.pts * packet.time_base)
                problem = f"has sound that cannot be decoded at {at:.2f} seconds: copy or make it again, or leave the "
                raise FrameError.about(
                    self._video.path, "sound-damaged", f"{problem}sound out with --no-audio"
                ) from error
            for frame in frames if packet.size else [*frames, None]:
                graph.push(frame)
                while True:
                    try:
                        slowed = graph.pull()
                    except (av.error.BlockingIOError, av.error.EOFError):
                        break
                    yield from copy.encode(slowed)
            if not packet.size:
                yield from copy.encode(None)

        return packets

    def _cover(self, container: Any, stream: Any) -> Callable[[Any], Iterator[Any]] | None:
        """Keep the cover art: Matroska has it as an attachment, MP4 as a stream of one picture, and MOV not at all."""
        codec = _codec_name(stream)
        if container.format.name == "matroska" and codec in COVER_SUFFIXES:
            suffix = COVER_SUFFIXES[codec]
            container.add_attachment(f"cover.{suffix}", f"image/{suffix.replace('jpg', 'jpeg')}", self._first(stream))
            return lambda packet: iter(())
        if container.format.name != "mp4" or codec not in COVER_SUFFIXES:
            return None
        return self._copy(container, stream)

    def _first(self, stream: Any) -> bytes:
        """Read the first packet of a stream; those before it are kept."""
        for packet in self._container.demux():
            self._early.append(packet)
            if packet.stream.index == stream.index and packet.size:
                return bytes(packet)
        return b""

    def _slowed_chapter(self, chapter: Mapping[str, Any]) -> dict[str, Any]:
        times = {name: round(chapter[name] * self._stretch) for name in ("start", "end")}
        return {**chapter, **times}


def merged(*streams: Iterator[Any]) -> Iterator[Any]:
    """Yield the packets of several iterators in the order of their times."""

    def timed(packets: Iterator[Any]) -> Iterator[tuple[Fraction, Any]]:
        latest = Fraction(-(10**9))
        for packet in packets:
            time = packet.dts if packet.dts is not None else packet.pts
            latest = latest if time is None else max(latest, time * packet.time_base)
            yield latest, packet

    for _, packet in heapq.merge(*map(timed, streams), key=lambda one: one[0]):
        yield packet


def _codec_name(stream: Any) -> str:
    return stream.codec_context.name if stream.codec_context is not None else "an unknown codec"


def kept_metadata(metadata: Mapping[str, str], keys: Sequence[str] = STREAM_METADATA) -> dict[str, str]:
    """Return the metadata that is copied into the output."""
    return {key: value for key, value in metadata.items() if key.lower() in keys}

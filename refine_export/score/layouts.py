"""Layouts of data sets: two frames and the true one between them, by the files that each data set comes with.

    vimeo-triplet    tri_testlist.txt, sequences/NAME/im1.png im2.png im3.png
    vimeo-septuplet  sep_testlist.txt, sequences/NAME/im3.png im4.png im5.png of seven
    ucf101           N/frame_00.png frame_01_gt.png frame_02.png
    snu-film         test-easy.txt ... test-extreme.txt, three paths a line
    middlebury       other-data/NAME/frame10.png frame11.png, other-gt-interp/NAME/frame10i11.png
    triplets         NAME/ with three pictures, in the order of their names

All files are looked for, and their sizes read, before the first run: nothing is left out silently or counted twice.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from refine_export.data.images import SUFFIXES, natural_order, size_of_file
from refine_export.errors import FrameError
from refine_export.score.score_options import Layout
from refine_export.support.files import check_input_file
from refine_export.support.text import listed, size_text

SNU_SPLITS = ("easy", "medium", "hard", "extreme")
OF_PAPERS: Mapping[Layout, int] = {
    "vimeo-triplet": 3782,
    "vimeo-septuplet": 7824,
    "ucf101": 379,
    "snu-film": 310,
    "middlebury": 12,
}
"""Triplets of a split in the papers' means."""


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """Two frames and the true one between them."""

    split: str
    name: str
    """Its name in the data set; unique in its split."""
    frame0: Path
    truth: Path
    frame1: Path

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """The three files in the order of time."""
        return self.frame0, self.truth, self.frame1


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The triplets of a folder, checked."""

    layout: Layout
    triplets: tuple[Triplet, ...]
    sizes: frozenset[tuple[int, int]]
    """Heights and widths of the frames."""
    notes: tuple[str, ...]


def data_set_from_folder(folder: Path, layout: Layout | None = None, limit: int | None = None) -> DataSet:
    """Find the triplets of a data set, and check that they can be scored.

    Args:
        folder: the data set.
        layout: default: by its files.
        limit: upper bound of the triplets of each split.

    Raises:
        FrameError: `not-a-folder`; `unknown-layout`, `wrong-layout` or `ambiguous-layout`; `empty-split`, `bad-list`,
            `listed-twice` or `not-a-triplet`; `not-found` or another problem of a picture; or `sizes-differ`.
    """
    if not folder.is_dir():
        raise FrameError.about(folder, "not-a-folder", "is not a folder; give the folder of a data set")
    layout = layout or _recognised(folder)
    found = list(_LAYOUTS[layout].find(folder)) if _LAYOUTS[layout].fits(folder) else []
    if not found:
        problem = f"is not a data set of the layout {layout}; expected {_LAYOUTS[layout].expected}"
        raise FrameError.about(folder, "wrong-layout", problem, layout=layout)
    if twice := [key for key, count in Counter((one.split, one.name) for one in found).items() if count > 1]:
        problem = f"has {listed([name for _, name in twice], 3)} twice; name each triplet once"
        raise FrameError.about(folder, "listed-twice", problem, names=[name for _, name in twice])
    splits = {split: list(members) for split, members in itertools.groupby(found, lambda one: one.split)}
    triplets = [one for members in splits.values() for one in members[:limit]]
    sizes = {_checked_size(one) for one in triplets}
    notes = list(_notes(folder, layout, splits, limit))
    return DataSet(layout=layout, triplets=tuple(triplets), sizes=frozenset(sizes), notes=tuple(notes))


def _checked_size(triplet: Triplet) -> tuple[int, int]:
    size = size_of_file(triplet.frame0)
    for path in triplet.files[1:]:
        if (other := size_of_file(path)) != size:
            what = f"is {size_text(other)}, {triplet.frame0} is {size_text(size)} (height x width)"
            raise FrameError.about(path, "sizes-differ", f"{what}; expected three frames of one size")
    return size


def _notes(folder: Path, layout: Layout, splits: Mapping[str, Sequence[Triplet]], limit: int | None) -> Iterator[str]:
    for split, members in splits.items():
        scored = len(members[:limit])
        if scored < len(members):
            yield f"{split}: the first {scored} of {len(members)} triplets are scored."
        if len(members) != (of_papers := OF_PAPERS.get(layout, len(members))):
            yield f"{split} has {len(members)} triplets; the figures of papers are means over {of_papers}."
    if layout == "snu-film" and (missing := [split for split in SNU_SPLITS if split not in splits]):
        yield f"{folder} has no list of the splits {listed(missing)}: they are not scored."


def _recognised(folder: Path) -> Layout:
    fitting = [name for name, layout in _LAYOUTS.items() if layout.fits(folder)]
    if len(fitting) > 1 and "triplets" in fitting:  # folders of another layout may hold three pictures too
        fitting.remove("triplets")
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        problem = f"fits the layouts {listed(fitting)}; give one of them with --layout"
        raise FrameError.about(folder, "ambiguous-layout", problem, layouts=fitting)
    known = "; ".join(f"{name}: {layout.expected}" for name, layout in _LAYOUTS.items())
    raise FrameError.about(folder, "unknown-layout", f"is not a data set of a known layout. Known are {known}")


def _vimeo(list_name: str, *frames: str) -> _Layout:
    """Return a layout of Vimeo-90K by its list, and the three frames of each sequence that are taken."""

    def find(folder: Path) -> Iterator[Triplet]:
        # vimeo_interp_test, which holds only the test set, calls the folder of the sequences `target`.
        sequences = folder / ("sequences" if (folder / "sequences").is_dir() else "target")
        for name, number in _lines(folder / list_name):
            where = f"{folder / list_name} line {number}"
            frame0, truth, frame1 = (_file_in(sequences, f"{name}/{frame}", where) for frame in frames)
            yield Triplet(split="test", name=name, frame0=frame0, truth=truth, frame1=frame1)

    return _Layout(lambda folder: (folder / list_name).is_file(), find, f"{list_name} and sequences/")


def _ucf101(folder: Path) -> Iterator[Triplet]:
    for inner in _folders(_ucf101_folder(folder)):
        frame0, truth, frame1 = (
            _file_in(inner, name, "the layout ucf101") for name in ("frame_00.png", "frame_01_gt.png", "frame_02.png")
        )
        yield Triplet(split="test", name=inner.name, frame0=frame0, truth=truth, frame1=frame1)


def _snu_film(folder: Path) -> Iterator[Triplet]:
    for split, path in _snu_lists(folder).items():
        skipped: int | None = None
        for line, number in _lines(path):
            where = f"{path} line {number}"
            if len(names := line.split()) != 3:
                problem = f"has {len(names)} paths in line {number}; expected three: frame, true frame, frame"
                raise FrameError.about(path, "bad-list", problem, line=number)
            if skipped is None:
                skipped = _leading_folders(folder, names[0])
            kept = ["/".join(PurePosixPath(name).parts[skipped:]) for name in names]
            frame0, truth, frame1 = (_file_in(folder, name, where) for name in kept)
            yield Triplet(split=split, name=names[1], frame0=frame0, truth=truth, frame1=frame1)


def _leading_folders(folder: Path, name: str) -> int:
    """Count the leading parts of a list's paths that this copy lacks: its authors' begin with `data/SNU-FILM/`."""
    parts = PurePosixPath(name).parts
    return next((count for count in range(len(parts)) if folder.joinpath(*parts[count:]).is_file()), 0)


def _middlebury(folder: Path) -> Iterator[Triplet]:
    data, truths = (folder / name for name in _MIDDLEBURY)
    names = {inner.name for top in (data, truths) for inner in _folders(top)}
    for name in sorted(names):
        frame0, frame1 = (
            _file_in(data / name, frame, "the layout middlebury") for frame in ("frame10.png", "frame11.png")
        )
        truth = _file_in(truths / name, "frame10i11.png", "the layout middlebury")
        yield Triplet(split="other", name=name, frame0=frame0, truth=truth, frame1=frame1)


def _triplets(folder: Path) -> Iterator[Triplet]:
    for inner in _folders(folder):
        if len(pictures := _pictures(inner)) != 3:
            problem = f"has {len(pictures)} pictures; expected three: a frame, the true one between, the next frame"
            raise FrameError.about(inner, "not-a-triplet", problem)
        yield Triplet(split=folder.name, name=inner.name, frame0=pictures[0], truth=pictures[1], frame1=pictures[2])


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the lines of a list that are not blank, with their numbers."""
    check_input_file(path, FrameError, "give a data set with its list")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FrameError.about(path, "bad-list", f"is not text in UTF-8 ({error.reason})") from error
    numbered = [(line.strip(), number) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise FrameError.about(path, "empty-split", "names no triplets; expected one a line")
    yield from numbered


def _file_in(folder: Path, name: str, where: str) -> Path:
    """Return a file of the data set; `where` says what names it."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise FrameError(f"{where} names {name}, which is outside {folder}", code="bad-list", path=folder)
    path = folder / name
    check_input_file(path, FrameError, f"{where} names it")
    return path


def _folders(folder: Path) -> list[Path]:
    inner = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted((path for path in inner if not path.name.startswith(".")), key=natural_order)


def _pictures(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES), key=natural_order)


def _ucf101_folder(folder: Path) -> Path:
    inner = folder / "ucf101_interp_ours"
    return inner if inner.is_dir() else folder


def _snu_lists(folder: Path) -> dict[str, Path]:
    tops = (folder, folder / "eval_modes")
    paths = {split: [top / f"test-{split}.txt" for top in tops] for split in SNU_SPLITS}
    return {split: found[0] for split, some in paths.items() if (found := [path for path in some if path.is_file()])}


@dataclass(frozen=True)
class _Layout:
    fits: Callable[[Path], bool]
    find: Callable[[Path], Iterator[Triplet]]
    expected: str
    """Files that it is recognised by, for messages."""


_MIDDLEBURY = ("other-data", "other-gt-interp")
_LAYOUTS: Mapping[Layout, _Layout] = {
    "vimeo-triplet": _vimeo("tri_testlist.txt", "im1.png", "im2.png", "im3.png"),
    "vimeo-septuplet": _vimeo("sep_testlist.txt", "im3.png", "im4.png", "im5.png"),
    "ucf101": _Layout(
        lambda folder: any((inner / "frame_01_gt.png").is_file() for inner in _folders(_ucf101_folder(folder))),
        _ucf101,
        "folders with frame_00.png, frame_01_gt.png and frame_02.png",
    ),
    "snu-film": _Layout(lambda folder: bool(_snu_lists(folder)), _snu_film, "test-easy.txt to test-extreme.txt"),
    "middlebury": _Layout(
        lambda folder: any((folder / name).is_dir() for name in _MIDDLEBURY), _middlebury, " and ".join(_MIDDLEBURY)
    ),
    "triplets": _Layout(
        lambda folder: any(len(_pictures(inner)) == 3 for inner in _folders(folder)),
        _triplets,
        "folders with three pictures each",
    ),
}

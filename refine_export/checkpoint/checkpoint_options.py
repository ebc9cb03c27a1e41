"""Options that choose the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.signature import check_range

Architecture = Literal["refinement", "IFNet", "IFNet_m", "IFNet_2R", "HDv3", "RIFE 4"]


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Source of the weights."""

    path: str | None = field(default=None, metadata={"flag": "--checkpoint", "keyword": "checkpoint"})
    """A .pkl, .pth or .safetensors file, or the name of released weights (rife-4.0, hdv3); default: rife-4.0."""
    variant: Literal["auto", "IFNet_2R"] = "auto"
    """IFNet_2R for a file of that network: it has the keys and shapes of IFNet, so the file itself does not show it."""
    refine: bool = field(default=True, metadata={"flag": "--refine/--no-refine"})
    """Use the refinement of a RIFE 4.0 file that has one; otherwise only the flow stage (upstream's fast mode)."""
    weights: Literal["released", "seeded"] = "released"
    """Without a path: released RIFE 4.0 with its refinement, or seeded random weights."""
    architecture: Literal["IFNet", "IFNet_m"] = "IFNet"
    """Network of the seeded weights; the network of a file follows from its keys."""
    seed: int = 0
    """Seed of the seeded weights, 0 to 2**32 - 1."""

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**32 - 1)
        if self.path == "":
            raise ValueError("path is empty; give a file, or leave the key out for released RIFE 4.0")
        if self.path is None and self.weights == "released" and (self.seed, self.architecture) != (0, "IFNet"):
            raise ValueError("seed and architecture choose seeded weights; give weights = 'seeded' with them")

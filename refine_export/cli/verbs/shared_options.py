"""Options that several verbs share, each spelled once."""

from pathlib import Path
from typing import Annotated

import typer

from refine_export.signature import SIGNATURES

RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", help="Recipe with all options (see init); other options win over it.")
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="Weights: .pkl, .pth or .safetensors. Default: the demo weights."),
]
FramesOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--frames", metavar="A B", help="Two pictures of equal size. Default: a procedural scene."),
]
GraphOption = Annotated[
    list[str] | None,
    typer.Option(
        "--graph",
        help=f"{', '.join(SIGNATURES)}; repeat for several. Default: refine, and the interpolator of the weights.",
        autocompletion=lambda: list(SIGNATURES),
    ),
]
DynamicOption = Annotated[
    bool | None, typer.Option("--dynamic/--static", help="Any batch, height and width, or one. Default: dynamic.")
]
SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="HxW", help="Size of a static file, such as 1088x1920.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]
RequireOption = Annotated[
    list[str] | None,
    typer.Option("--require", metavar="RUNTIMES", help="torch, ort, trt: exit with 3 where one of these is missing."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="fp16, bf16, or fp32 to change the samplers alone. Default: fp16.")
]
IoOption = Annotated[
    str | None, typer.Option("--io", help="Images at inputs and outputs: fp32 or fp16. Default: fp32.")
]
GridSampleOption = Annotated[
    str | None,
    typer.Option("--gridsample", help="native, or gather: written out, for runtimes that sample wrongly."),
]
TargetPsnrOption = Annotated[
    float | None, typer.Option("--target-psnr", metavar="DB", help="Find the FP32 regions that reach this PSNR.")
]
MaxErrorOption = Annotated[
    float | None, typer.Option("--max-error", metavar="E", help="The same for the largest error, of the peak.")
]
CalibrateOption = Annotated[
    list[Path] | None,
    typer.Option("--calibrate", metavar="NPZ", help="An array for each input; repeat. Default: sample frames."),
]
CalibrationSizeOption = Annotated[
    str | None, typer.Option("--size", metavar="HxW", help="Size to calibrate a dynamic file at.")
]
WithoutWarpOption = Annotated[bool, typer.Option("--without-warp", help="The graph samples nothing.")]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Print every node's type and the reason.")]

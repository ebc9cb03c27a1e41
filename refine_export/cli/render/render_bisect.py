"""What the command line shows of a bisection: the first jump, the largest ones, the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from refine_export.cli.render.console import escape
from refine_export.support.text import listed

if TYPE_CHECKING:
    from refine_export.bisect.bisect_result import Bisected, Jump, LayerError

JUMPS_SHOWN = 10
NODES_SHOWN = 4


def print_bisected(found: Bisected) -> None:
    """At most a screenful."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(
        f"{escape(found.candidate)} against {escape(found.reference)}: {len(found.layers)} tensors on "
        f"{len(found.feeds)} feeds",
        soft_wrap=True,
    )
    for note in found.notes:
        console.print(note)
    if found.first is not None:
        _print_first(console, found.first)
    ranked = sorted((jump.layer for jump in found.jumps), key=lambda layer: layer.excess, reverse=True)
    if len(ranked) > 1:
        console.print(f"\nthe largest of {len(ranked)} jumps, in units of each tensor's peak:")
        _print_table(console, ranked[:JUMPS_SHOWN])
    console.print("\noutputs:")
    _print_table(console, found.outputs)
    if found.first is None:
        console.print("\n[green]no jump[/]: every error is explained by the types and by what came in")


def _print_first(console: Console, jump: Jump) -> None:
    layer = jump.layer
    console.print(f"\n[red]first jump[/]: {escape(layer.operator)} {escape(layer.node)}", soft_wrap=True)
    console.print(
        f"  error before {layer.before:.2g}, after {layer.after:.2g}; made here {layer.own:.2g}, "
        f"{layer.type} explains {layer.allowed:.2g} ({escape(layer.feed)})",
        soft_wrap=True,
    )
    others = [name for name in jump.candidate if name != layer.node]
    if others:
        console.print(f"  in the file also: {escape(listed(others, NODES_SHOWN))}", soft_wrap=True)
    for reason in jump.reasons:
        console.print(f"  {escape(reason)}", soft_wrap=True)
    if not jump.reasons:
        console.print("  nothing is written differently here: the runtime computes something else", soft_wrap=True)


def _print_table(console: Console, layers: Sequence[LayerError]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("node", "type", "before", "after", "made here", "explained"):
        table.add_column(heading, justify="left" if heading in ("node", "type") else "right", no_wrap=heading != "node")
    for layer in layers:
        numbers = (layer.before, layer.after, layer.own, layer.allowed)
        table.add_row(escape(f"{layer.operator} {layer.node}"), layer.type, *(f"{number:.2g}" for number in numbers))
    console.print(table)

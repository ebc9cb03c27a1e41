"""What the command line shows of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from refine_export.console import escape

if TYPE_CHECKING:
    from refine_export.engine.engine_file import EngineFile

_CANARY = {True: "[green]right[/]", False: "[red]wrong[/]", None: "[yellow]not run[/]"}
_PROVEN = {True: "[green]proven[/]", False: "[yellow]not proven[/]"}


def print_engine(made: EngineFile) -> None:
    """What was built, how it was proven, and what there is to know of it."""
    say = _sayer()
    for change in made.changes:
        say(f"built anew: {escape(change)}")
    for line in _proofs(made.manifest.details):
        say(line)
    state = "reused: nothing that it depends on has changed" if made.reused else f"{made.manifest.seconds:.0f} s"
    say(f"{escape(str(made.path))}  {made.size_bytes / 2**20:.1f} MiB, rung {escape(made.rung)} ({state})")


def print_plan(description: Mapping[str, Any]) -> None:
    """What `engine.plan.describe` found: the file, what it was built for and from, and its proofs."""
    say = _sayer()
    for name in ("file", "sha256", "size_bytes", "tensorrt", "manifest"):
        say(f"{name}: {escape(str(description[name]))}")
    if "key" not in description:
        return
    say("built for and from:")
    for name, value in description["key"].items():
        if isinstance(value, Mapping):
            said = ", ".join(f"{option} {setting}" for option, setting in value.items() if setting is not None)
            say(f"  {escape(name)}: {escape(said)}")
        elif name == "profiles":
            for line in _profiles(value):
                say(f"  {line}")
        else:
            say(f"  {escape(name)}: {escape(str(value))}")
    if source := description["details"].get("artifact"):
        say(f"  graph: {escape(str(source['graph']))}, {escape(str(source['precision']))}, {escape(source['file'])}")
        say(f"  weights: {escape(str(source['checkpoint']))} (sha256 {escape(str(source['checkpoint_sha256']))})")
    say("proofs:")
    for line in _proofs(description["details"]):
        say(f"  {line}")


def _sayer() -> Callable[[str], None]:
    console = Console(highlight=False)
    return lambda text: console.print(text, soft_wrap=True)


def _profiles(profiles: Any) -> Iterator[str]:
    for number, profile in enumerate(profiles):
        for tensor, shapes in profile.items():
            said = " / ".join("x".join(map(str, shape)) for shape in shapes)
            yield escape(f"profile {number} of {tensor}: {said}")


def _proofs(details: Mapping[str, Any]) -> Iterator[str]:
    """Markup, line by line: repairs, canary, rungs, types, notes."""
    for repair in details["guard"]["repairs"]:
        yield escape(f"repaired {repair['layer']}: {repair['attribute']} was {repair['found']}, is {repair['set']}")
    if (canary := details.get("canary")) is not None:
        yield f"canary: {_CANARY[canary['passed']]}, {escape(canary['words'])}"
    for tried in details["ladder"]:
        yield f"rung {escape(_rung(tried))}"
    precision = details["precision"]
    types = ", ".join(f"{count} {kind}" for kind, count in precision["convolutions"].items()) or "none"
    yield f"types of the convolutions in the engine: {escape(types)} ({_PROVEN[precision['proven']]})"
    if refitted := details.get("refitted"):
        yield f"refitted: its weights came into the plan {escape(str(refitted['plan_sha256'])[:12])}"
    for note in (*precision["notes"], *details["notes"]):
        yield f"note: {escape(note)}"


def _rung(tried: Mapping[str, Any]) -> str:
    """`native: passed, largest error 0.0021 of the peak (at most 0.05), 66.8 dB (at least 58)`."""
    head = f"{tried['rung']}: {tried['status']}"
    limits = tried["limits"]
    if limits is None:
        return f"{head}, {tried['reason']}"
    errors = [one["max_abs"] for one in tried["numbers"]]
    levels = [one["psnr_db"] for one in tried["numbers"] if one["psnr_db"] is not None]
    error = "not finite" if None in errors else f"{max(errors):.2g} of the peak"
    level = f", {min(levels):.1f} dB (at least {limits['psnr_db']:g})" if levels else ""
    return f"{head}, largest error {error} (at most {limits['max_abs']:g}){level}"

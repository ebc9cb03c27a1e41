"""Measure how long `--help` takes beside a bare typer program with two commands.

python scripts/benchmark_help.py [rounds]

The programs run in turn, so that other work of the machine falls on all of them. The figures are medians: wall time,
CPU time (which other work changes least), and the ratio of both to the bare program's, which must stay within 1.2.
"""

import os
import statistics
import subprocess
import sys
import time

from refine_export.cli.main import SUBVERBS, VERBS

BARE = """
import typer

app = typer.Typer()


@app.command()
def one(count: int = 1) -> None:
    \"\"\"Do one thing.\"\"\"


@app.command()
def two(name: str = "x") -> None:
    \"\"\"Do another.\"\"\"


app()
"""
OURS = "from refine_export.cli.main import program; program()"


def seconds_of(code: str, *arguments: str) -> tuple[float, float]:
    """Run a program in a fresh interpreter and return its wall time and its CPU time."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL) as process:
        _, process.returncode, usage = os.wait4(process.pid, 0)
    assert process.returncode == 0
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def measured(rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median wall time and CPU time of each command, the bare program first."""
    programs = {"bare typer, two commands": (BARE, "--help"), "refine-export": (OURS, "--help")}
    programs |= {f"refine-export {verb}": (OURS, *verb.split(), "--help") for verb in VERBS | SUBVERBS}
    for program in programs.values():  # compiles what was not compiled yet
        seconds_of(*program)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            times[name].append(seconds_of(*program))
    return {
        name: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for name, found in times.items()
    }


def main() -> None:
    """Print a line for each command."""
    medians = measured(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
    bare_wall, bare_cpu = next(iter(medians.values()))
    print(" wall ms  ratio  CPU ms  ratio")
    for name, (wall, cpu) in medians.items():
        print(f"{wall * 1000:8.0f} {wall / bare_wall:6.2f} {cpu * 1000:7.0f} {cpu / bare_cpu:6.2f}  {name}")


if __name__ == "__main__":
    main()

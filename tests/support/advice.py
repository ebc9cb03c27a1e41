"""Advice in messages: where the package gives some, and how a test follows it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from refine_export.cli.main import SUBVERBS, VERBS
from tests.support.commands import COMMANDS
from tests.support.paths import ROOT

_VERB = "|".join(sorted(VERBS | SUBVERBS, key=len, reverse=True))
_PIECE = re.compile(rf"(?<![\w-])--[a-z][a-z0-9-]+|(?<=refine-export )(?:{_VERB})\b")
"""An option, or a verb in a command."""
_FLAG = re.compile(r"--[a-z0-9-]+(/--[a-z0-9-]+)?")
_OTHER_PROGRAMS = ("cross_checks.py", "wheels.py")
"""Files with command lines of Polygraphy, trtexec and pip."""


@dataclass(frozen=True)
class Message:
    """A text of the package that names options or verbs."""

    module: str
    pieces: tuple[str, ...]
    pattern: re.Pattern[str] = field(compare=False)
    """Matches the text with anything in place of its values."""


def _messages() -> dict[str, list[Message]]:
    """Find the texts that name options or verbs; not those of --help, or of docstrings, or an option's own name.

    Returns:
        Module and pieces, such as `init.py --force`, and the texts: they give the same advice.
    """
    found: dict[str, list[Message]] = {}
    for path in sorted((ROOT / "refine_export").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped: set[ast.AST] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr | ast.JoinedStr):
                skipped.update(ast.iter_child_nodes(node))
            elif isinstance(node, ast.keyword) and node.arg == "help":
                skipped.update(ast.walk(node.value))
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            if node in skipped or not all(isinstance(part, ast.Constant | ast.FormattedValue) for part in parts):
                continue
            texts = [str(part.value) if isinstance(part, ast.Constant) else None for part in parts]
            pieces = tuple(dict.fromkeys(_PIECE.findall("{}".join(text or "" for text in texts))))
            if path.name in _OTHER_PROGRAMS or not pieces or _FLAG.fullmatch(texts[0] or ""):
                continue
            pattern = "".join(".*?" if text is None else re.escape(text) for text in texts)
            message = Message(path.name, pieces, re.compile(pattern, re.DOTALL))
            found.setdefault(" ".join((path.name, *pieces)), []).append(message)
    return found


ADVICE = _messages()


@dataclass(frozen=True)
class Case:
    """A command whose message gives the advice, and the advice as it is followed."""

    line: str
    follow: str
    """Steps, separated by `; `: `+ WORDS` adds words to the command, `- WORDS` takes them out, `run` runs the command
    that the message has, and `run WORDS` one that it describes."""
    prepare: Callable[[pytest.FixtureRequest], object] = lambda request: None
    after: Callable[[], object] = lambda: None
    """What else the message asks for, before the command is repeated."""
    names: tuple[tuple[str, str], ...] = ()
    """What stands in the message's command for a file, and the file."""
    code: int = 2
    ran: int = 0
    then: int | tuple[int, ...] = 0
    """Exit codes of the command before, of the one that the message has, and of the first when it is repeated."""
    again: bool = True
    """Repeat the command; a message about what comes next stays."""


def call(line: str) -> None:
    """Run a command that a case needs first."""
    verb = max((name for name in COMMANDS if line.startswith(name)), key=len)
    COMMANDS[verb](shlex.split(line.removeprefix(verb)), standalone_mode=False)


def follow(advice: str, case: Case, command: Callable[..., tuple[int, str, str]]) -> None:
    """Run the command, do what its message says, and run it again: the message does not come back."""
    code, out, err = command(*shlex.split(case.line))
    text, line = out + err, case.line
    said = [(one, found) for one in ADVICE[advice] if (found := one.pattern.search(text))]
    assert (code, bool(said)) == (case.code, True), text
    message, found = said[0]
    used = case.line + case.follow
    for step in case.follow.split("; "):
        kind, _, words = step.partition(" ")
        if kind == "run":
            advised = words or re.findall(r"refine-export ([^`\n;[]+)", text[found.start() :])[0]
            used += advised
            for name, value in case.names:
                advised = advised.replace(name, value)
            code, *texts = command(*shlex.split(advised))
            assert code == case.ran, texts
        elif kind == "-":
            assert words in line
            line = line.replace(words, "")
        else:
            line += f" {words}"
    assert any(piece in used for piece in message.pieces)
    case.after()
    if case.again:
        code, out, err = command(*shlex.split(line))
        assert not any(one.pattern.search(out + err) for one, _ in said), out + err
        assert code in (case.then if isinstance(case.then, tuple) else (case.then,)), out + err

"""`--help`: every option whole and in its group, within the terminal."""

import re

import pytest

from refine_export.cli.main import VERBS, main
from tests.support.commands import COMMANDS, options_of_command


@pytest.fixture
def help_of(capsys, monkeypatch):
    def call(*words, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--help"])
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_stands_whole_within_the_terminal(help_of, verb, columns):
    text = help_of(*verb.split(), columns=columns)
    flags = {flag for flag in options_of_command(verb) if flag.startswith("-")}
    assert flags <= set(re.findall(r"(?<!\S)--?[a-z][\w-]*", text))
    described = [line for line in text.splitlines() if not re.match(r"  -", line)]  # a name is never cut
    assert max(map(len, described)) <= columns
    assert "[default: (" not in text


def test_options_are_grouped_with_choices_and_defaults(help_of):
    text = help_of("build", columns=100)
    headings = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert headings == ["Arguments", "Options", "Engine", "Sizes of a dynamic file", "The build itself"]
    assert re.search(r"--tiling-level none\|fast\|moderate\|full\n[^-]*\[default: none\]", text)
    assert re.search(r"--min-batch <int> .*\[default: 1\]", text[text.index("Sizes of") :])


@pytest.mark.parametrize("verb", ["run", "export", "lower", "build", "refit"])
def test_what_is_replaced_without_force_is_told(help_of, verb):
    assert "is replaced without it" in " ".join(help_of(verb, columns=100).split())


def test_the_root_lists_the_whole_help_of_each_verb(help_of):
    text = " ".join(help_of(columns=80).split())
    assert all(" ".join(line.split()) in text for line in VERBS.values())

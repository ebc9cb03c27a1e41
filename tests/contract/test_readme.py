"""The README says what the tool says."""

import re
import shlex

import pytest

from tests.support.commands import COMMANDS, options_of_command
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def first_sentence(verb):
    return " ".join(COMMANDS[verb].help.split()).partition(". ")[0].rstrip(".")


def test_the_table_of_verbs_is_the_help():
    table = dict(re.findall(r"^\| `refine-export ([\w-]+(?: \w+)?)` \| (.+?) \|$", README, re.MULTILINE))
    assert table == {verb: first_sentence(verb) for verb in COMMANDS}


def commands():
    for document in (README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))):
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", document, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["refine-export"]:
                    yield words


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_known_verbs_and_options(words):
    _, verb, *arguments = words
    if verb.startswith("--"):
        return
    if verb not in COMMANDS:
        verb, *arguments = f"{verb} {arguments[0]}", *arguments[1:]
    known = options_of_command(verb)
    for argument in arguments:
        if argument.startswith("-"):
            assert argument in known, f"refine-export {verb} has no {argument}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([\w-]+)", README, re.MULTILINE))))
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|src=\"([^\":]+)\"", text):
        path = next(filter(None, target))
        assert ((ROOT / document).parent / path).exists(), path

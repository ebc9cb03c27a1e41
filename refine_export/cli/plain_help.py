"""`--help` in plain text, wrapped to the terminal.

typer's panels cut the names of long options off at 80 columns, and drawing them takes longer than all the rest.
"""

from typing import Any

from typer.core import TyperCommand, TyperGroup

WIDEST = 120
"""Columns of text, on terminals that are wider."""


class PlainCommand(TyperCommand):
    """A command whose options stand under the headings of their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a list for each panel; options without one come first."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            name, text = record
            if parameter.param_type_name == "argument":
                kind, name = "Arguments", name.partition(" <")[0]  # without its type, such as `<list[Path]>`
            else:
                kind = getattr(parameter, "rich_help_panel", None) or "Options"
            groups.setdefault(kind, []).append((name, text))
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class PlainGroup(TyperGroup):
    """A group whose commands are listed with their whole help, where click shortens it to a line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help or "") for name, command in self.commands.items()])

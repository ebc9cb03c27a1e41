"""The commands of the console script by name, each with its parameters."""

from refine_export.cli.main import SUBVERBS, VERBS, load_verb

COMMANDS = {name: load_verb(name) for name in (VERBS | SUBVERBS) if name not in ("deploy", "weights")}


def options_of_command(name):
    """Return the flags that a command knows."""
    parameters = COMMANDS[name].params
    return {flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}

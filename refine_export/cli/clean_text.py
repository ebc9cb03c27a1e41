"""Texts of files and users on a terminal."""


def clean(text: str) -> str:
    """Return a text without control characters, which could steer the terminal.

    Lines after the first are indented, so that none of them looks like one of this tool's own.
    """
    cleaned = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
    return cleaned.replace("\n", "\n    ")

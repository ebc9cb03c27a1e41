"""The jobs: one function each, called by a verb of the command line and, for most, part of the public API."""

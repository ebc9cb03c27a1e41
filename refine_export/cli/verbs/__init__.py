"""The verbs of the command line, one file each: options to one call into the library, and its result printed."""

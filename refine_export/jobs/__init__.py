"""One job is one verb of the command line and one function of the public API."""

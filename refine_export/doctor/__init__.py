"""Try what this machine can run, and name the commands that add what is missing."""

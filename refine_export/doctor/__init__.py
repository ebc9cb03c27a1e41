"""What this machine can run, found out by trying, and the commands that add what is missing."""

"""A report, limits and a baseline to a decision, and the files in which CI systems read it."""

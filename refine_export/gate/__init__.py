"""The gate for CI: a report, limits and a baseline give a decision and the files that CI systems read."""

"""Reports of a run: `data` is the content, `grouping` the verdicts, `html` the page, `report_files` the files."""

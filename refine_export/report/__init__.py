"""Reports of a run: `report_data` the content, `grouping` the verdicts, `html` the page, `report_files` the files."""

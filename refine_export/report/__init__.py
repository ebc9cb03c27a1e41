"""Verdicts to something to look at: `data` is what a report says, `pictures` what it shows, `html` the page."""

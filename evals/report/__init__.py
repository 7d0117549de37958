"""The report: one self-contained page, its figures as files, and an image browser."""

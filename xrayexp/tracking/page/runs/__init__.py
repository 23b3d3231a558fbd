"""What the comparison page says of many runs, or of the trials of a sweep, by their folders alone: one file a section.

A section is a module with `section_of(sheet)`, which returns HTML, empty where there is nothing to show. A new one is
one file here and one line in `sections.SECTIONS`.
"""

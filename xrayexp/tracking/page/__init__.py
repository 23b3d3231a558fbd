"""The comparison page and the error gallery: one file a section.

A section is a module with `section_of(view)`, which returns HTML, empty where the runs have nothing to show. A new
one is one file here and one line in `comparison_page.SECTIONS`.
"""

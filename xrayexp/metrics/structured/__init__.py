"""Metrics of findings and locations, read from the reports' own form: no model, no download.

One file a metric; conf/metrics/structured.yaml lists them.
"""

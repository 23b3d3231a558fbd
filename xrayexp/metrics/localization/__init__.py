"""Metrics of boxes: the true ones beside those that a model drew, finding by finding."""

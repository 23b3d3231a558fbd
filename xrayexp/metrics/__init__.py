"""Metrics: reports in, numbers out. Knows nothing of models or of training."""

"""Measurements: `python -m cnnspec.bench.exact`, `python -m cnnspec.bench.summary`."""

"""Measurements: `cnnspec bench`, and `python -m cnnspec.bench.exact` and `python -m cnnspec.bench.summary`."""

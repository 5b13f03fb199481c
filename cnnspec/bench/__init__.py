"""Measurements: `python -m cnnspec.bench.exact`."""

"""Mutants that a default run does not catch, each with what its cases do not reach."""

REASONS: dict[str, str] = {}

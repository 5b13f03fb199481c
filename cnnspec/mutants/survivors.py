"""Mutants that a default run does not catch, each with what its cases do not reach."""

REASONS: dict[str, str] = {
    "conv2d first group only in float16": "two cases have groups and a 3 x 3 kernel in float16, and neither shows it",
}

"""Bugs that implementations had, written anew as functions: what the suite must catch."""

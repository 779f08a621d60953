"""Whole files at once, on a GPU where there is one: scores that say where nothing can be decided."""

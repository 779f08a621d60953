"""Malformed input for every outer door of the program: seeded, repeatable, and judged by what it must never do.

    python -m tests.fuzzing                               every door, 200 cases each
    python -m tests.fuzzing labels --seed 3 --count 5000
    python -m tests.fuzzing labels --seed 3 --only 417    one case again

A door is a module with `prepare()`, which brings a process up to speed, `case(random)`, which makes one case from a source of
chance alone, and `try_(case, folder)`, which puts it before the program and says what came of it.
"""

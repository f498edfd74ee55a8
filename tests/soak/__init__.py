"""The tests that gain from more time, for hours: ``python -m tests.soak --hours 8 --seed 1``."""

"""Planted faults: `python -m tests.mutation` changes one expression at a time and asks whether a test notices."""

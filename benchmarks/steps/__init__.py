"""One file per training step: CONTENDERS maps a name to a function that prepares the step and returns it.

The first contender is ours; the name in REFERENCE is what ratios are taken against.
"""

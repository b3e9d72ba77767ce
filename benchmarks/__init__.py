"""The same training step here and in PyTorch, timed side by side: `scratch bench`, or `python -m benchmarks`."""

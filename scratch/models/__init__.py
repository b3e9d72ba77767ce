"""One folder per architecture: README.md, model.py, train.py, expected.json and the weights of its default run."""

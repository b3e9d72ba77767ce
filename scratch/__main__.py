"""`python -m scratch` is the command `scratch`, for where scripts' folders are not on the path."""

import sys

from scratch.cli import main

if __name__ == "__main__":
    sys.exit(main())

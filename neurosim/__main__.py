"""`python -m neurosim <verb>`."""

import sys

from neurosim.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

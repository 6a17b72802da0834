"""`python -m neurosim <verb>`."""

import sys

try:
    from neurosim.cli import main
except KeyboardInterrupt:  # Ctrl-C while the packages load: nothing has begun
    print("interrupted", file=sys.stderr)
    sys.exit(130)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

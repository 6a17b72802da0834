"""`python -m neurosim <verb>`."""

import os
import sys

# Behind an operation of its own torch's threads wait by spinning, on the cores that the CPU backend's threads need (two
# threads: 3 instead of 17 ms of CPU for a small batch). Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    from neurosim.cli import main
except KeyboardInterrupt:  # Ctrl-C while the packages load: nothing has begun
    print("interrupted", file=sys.stderr)
    sys.exit(130)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

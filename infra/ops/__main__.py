"""`python -m infra.ops`."""

import sys

from infra.ops.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

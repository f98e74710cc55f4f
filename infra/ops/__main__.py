"""`python -m infra.ops`, in the root of the project."""

import sys

from infra.ops.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], name="python -m infra.ops"))

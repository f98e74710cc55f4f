"""Serves the emulator: `python emulator_server.py <its site-packages> <arguments of hypercorn>`.

Run by a bare interpreter that gets the emulator's packages only here, inside this process. The emulator starts each
function with the interpreter it runs on itself, so functions see the standard library and their own artefact, as on
Lambda: a dependency missing from the artefact is missing here too, instead of being borrowed from the emulator.
"""

import site
import sys

if __name__ == "__main__":
    site.addsitedir(sys.argv[1])

    from hypercorn.__main__ import main

    sys.exit(main(sys.argv[2:]))

"""``python -m mpcache.cli``: the command, if its script is not on the PATH.

Depends on the package.
"""

from __future__ import annotations

import sys

from mpcache.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""Run the command.

Depends on mpcache.stress.
"""

import sys

from mpcache.stress.commands import main

sys.exit(main())

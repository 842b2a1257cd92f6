"""``make fuzz``: damage live segments, while two processes use them.  Exit status: 1 if anything was found.

Depends on director.
"""

from __future__ import annotations

import argparse
import random
import sys

from .director import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=", description="Damage live segments and use them meanwhile.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), help="repeats a run")
    parser.add_argument("--corruptions", type=int, default=200_000, help="after which it ends (%(default)s)")
    parser.add_argument("--only", type=int, metavar="EPISODE", help="play this episode alone")
    parser.add_argument("--times", type=int, default=20, help="how often to play that, until it fails (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which it ends")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds that a call may take (%(default)s)")
    parser.add_argument("--findings", type=int, default=10, help="after which it ends (%(default)s)")
    outcome = fuzz(**vars(parser.parse_args()))
    print(outcome)
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())

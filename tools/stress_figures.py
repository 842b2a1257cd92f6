"""Extract the data of docs/stress from reports: ``python tools/stress_figures.py REPORT... >docs/stress.json``.

Depends on nothing of mpcache.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Print the part of each run that the page docs/stress shows."""
    reports = [one for path in sys.argv[1:] for one in json.loads(_file(Path(path)).read_text())]
    newest = max(reports, key=lambda one: str(one["began"]))
    machine = newest["machine"] | {"date": newest["began"][:10]}
    print(json.dumps({"machine": machine, "runs": [_kept(one) for one in reports]}, indent=1))


def _file(path: Path) -> Path:
    return path / "report.json" if path.is_dir() else path


def _kept(report: dict[str, Any]) -> dict[str, Any]:
    kept = {name: report[name] for name in ("scenario", "mutex", "seconds", "operations", "kills", "stops", "found")}
    took = report["latencies"].get("take-over")
    kept["backend"] = report["settings"]["backend"] if report["store"] else ""
    return kept | {"take-over": took and {which: took[which] for which in ("median", "max")}}


if __name__ == "__main__":
    main()

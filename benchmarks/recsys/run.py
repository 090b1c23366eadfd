"""All benchmarks of recsys, each beside its peers: the ranking table, similarity, training.

    python benchmarks/recsys/run.py                             # root; about 20 minutes on two idle cores

Each is a script beside this one, with options of its own (`--help`): join.py, similarity.py, training.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("join.py", "similarity.py", "training.py")


def main() -> int:
    """Run what there is, in order; the number of scripts that failed."""
    here, failed = Path(__file__).parent, 0
    for script in SCRIPTS:
        if (here / script).is_file():
            print(f"== {script}", flush=True)
            failed += subprocess.run([sys.executable, str(here / script)], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())

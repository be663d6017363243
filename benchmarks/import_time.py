"""How long `import topwork` takes, over an interpreter that imports nothing.

    python benchmarks/import_time.py --runs 15

The two are timed in turn, so that a busy moment of the machine meets both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(code: str) -> float:
    """Wall time of one fresh interpreter that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the medians, in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs

    seconds("import topwork")  # writes the byte code, fills the page cache
    empty, topwork = [], []
    for _ in range(runs):
        empty.append(seconds("pass"))
        topwork.append(seconds("import topwork"))
    empty_ms = 1000 * statistics.median(empty)
    topwork_ms = 1000 * statistics.median(topwork)
    print(f"empty interpreter   {empty_ms:6.1f} ms")
    print(f"import topwork      {topwork_ms:6.1f} ms")
    print(f"difference          {topwork_ms - empty_ms:6.1f} ms  (median of {runs} runs)")


if __name__ == "__main__":
    main()

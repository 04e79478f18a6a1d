"""``make bench``: measure, and print one table."""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import dag_import, demo, git_memory, git_sources, local_server, resume, waits
from benchmarks.table import HEADER, Row

PARTS = ("dag_import", "local_server", "git_sources", "git_memory", "demo", "waits", "resume")


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=…", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--times", type=int, default=21, help="measurements for each median (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=waits.SIZES, help="numbers of waits (%(default)s)")
    parser.add_argument("--long", action="store_true", help="watch the waits for ten minutes too")
    options = parser.parse_args()
    parts = options.parts or PARTS
    rows: list[Row] = []
    for part in parts:
        print(f"{part} …", flush=True)
        if part == "dag_import":
            rows += dag_import.rows(options.times)
        elif part == "local_server":
            rows += local_server.rows(options.times)
        elif part == "git_sources":
            rows += git_sources.rows()
        elif part == "git_memory":
            rows += git_memory.rows()
        elif part == "demo":
            rows += demo.rows()
        elif part == "waits":
            rows += waits.rows(options.sizes)
            rows += waits.long_rows() if options.long else []
        elif part == "resume":
            rows += resume.rows()
        else:
            parser.error(f"no part {part!r}: choose from {', '.join(PARTS)}")
    print(f"\nPython {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n{HEADER}")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()

"""How long it takes to compare 200 records of 10,000 samples each and to write the report, and in how much memory.

The records are those of ``benchmarks/comparison.py``. Exits with 1 where it takes more than 60 s or 2 GB, or the page
is larger than 15 MB.

    python benchmarks/report.py [--records 200] [--samples 10000] [--keep DIR] [--threads 1]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from comparison import read_options, run_apart, write_records

MOST_SECONDS, MOST_GIGABYTES, MOST_MEGABYTES = 60.0, 2.0, 15.0
_REPORT = """
import resource, sys, time
from pathlib import Path
import torch  # which any use of the package loads
from robustprune.report import write_report
start = time.perf_counter()
write_report([f"{path.name}={path}" for path in sorted(Path(sys.argv[1]).iterdir())], sys.argv[2])
print(time.perf_counter() - start, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def main() -> int:
    options = read_options(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder, page = options.keep or Path(temporary) / "records", Path(temporary) / "report.html"
        write_records(folder, options.records, options.samples)
        seconds, processor, gigabytes = run_apart(_REPORT, folder, page, threads=options.threads)
        megabytes = page.stat().st_size / 1e6
    print(f"{options.records} records of {options.samples} samples compared and reported")
    print(f"{seconds:.1f} s ({processor:.1f} s of processor time), at most {MOST_SECONDS:.0f}")
    print(f"peak memory {gigabytes:.2f} GB, at most {MOST_GIGABYTES:.0f}")
    print(f"page {megabytes:.1f} MB, at most {MOST_MEGABYTES:.0f}")
    return int(seconds > MOST_SECONDS or gigabytes > MOST_GIGABYTES or megabytes > MOST_MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())

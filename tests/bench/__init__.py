"""The measurements behind docs/performance.md: `make bench`, or `python -m tests.bench --help`."""

"""The benchmark: `make bench`. See docs/testing.md."""

"""Tests of `mta`."""

"""Tests. They mirror the package, so that the test of a module is where one looks for it."""

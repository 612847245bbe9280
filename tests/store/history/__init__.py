"""Tests of packed time."""

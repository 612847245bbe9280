"""Turns counters into usage reports, one file a view."""

"""The views: each builds a report from counters, and stands in a file of its own."""

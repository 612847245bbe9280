"""Packed time: what half-hours and days counted, in few bytes and exactly."""

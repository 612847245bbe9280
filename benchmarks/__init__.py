"""Measures what the package costs, side by side with its peers: `python3 run bench`."""

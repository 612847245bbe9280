"""What the package costs, measured on this code side by side with its peers: `python3 run bench`."""

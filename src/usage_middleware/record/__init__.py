"""Adds calls up in memory, and delivers them in the background."""

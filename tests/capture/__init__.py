"""Tests of room 1."""

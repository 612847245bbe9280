"""Tests of Redis keys, writing, reading and connecting."""

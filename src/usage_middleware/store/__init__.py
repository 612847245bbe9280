"""Room 3: Redis. What the keys are called, how rows are written, how slots are read, where the server is."""

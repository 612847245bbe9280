"""Room 3: Redis. What the keys are called, how rows are written, how slots are read, where the server is."""

# What is registered first for the end of the process runs last. The embedded server gives back its share by way of this
# module: after the recorder, which imports this room, has delivered what was left.
import multiprocessing.util  # noqa: F401

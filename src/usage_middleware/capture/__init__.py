"""Room 1: reads a finished request out of ASGI or WSGI. Imports no framework and nothing of the read half."""

"""Notes what a request was, under ASGI and WSGI. Imports no framework, and nothing of the half that reads."""

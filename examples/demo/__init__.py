"""The demo: serves the FastAPI example, calls it, and shows what was counted. `python3 run demo` starts it."""

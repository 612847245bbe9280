"""Other projects' own test suites, with and without the middleware around every application: `python3 run suites`."""

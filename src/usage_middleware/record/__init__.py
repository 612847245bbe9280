"""Room 2: adds calls up in the process and has them delivered, off the request's path."""

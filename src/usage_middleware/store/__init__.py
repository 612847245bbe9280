"""Redis: the names of its keys, writing, reading, the key directory, and the connection."""

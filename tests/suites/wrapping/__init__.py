"""On the path of other projects' tests: what wraps their applications."""

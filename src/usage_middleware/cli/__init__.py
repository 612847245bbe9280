"""The `usage-middleware` command."""

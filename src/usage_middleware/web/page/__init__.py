"""The page: usage as charts and tables, for customers and operators."""

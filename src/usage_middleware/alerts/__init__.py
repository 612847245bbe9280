"""Alerts: which thresholds were reached, and telling the application once of each."""

"""Room 4: turns counters into the five usage reports. A file a view."""

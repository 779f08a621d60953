"""A net as data: frozen layer records, their connections, and where each output frame stands in time."""

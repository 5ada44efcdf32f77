"""The project: settings, the router between the two databases, the URLs."""

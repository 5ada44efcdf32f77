"""The routers of the application."""

"""The settings and the routes."""

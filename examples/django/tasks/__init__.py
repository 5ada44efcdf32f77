"""The application: a list of tasks."""

"""A FastAPI application with a list of tasks."""

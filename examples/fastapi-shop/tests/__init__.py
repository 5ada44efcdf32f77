"""The shop's tests. They run on a database leased from pgdibs; `conftest.py` one folder up takes the lease."""

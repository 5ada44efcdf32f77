"""A shop: the example application whose tests run on leased databases."""

"""Use cases: one transaction each, opened here. Knows the domain and the store, no messages."""

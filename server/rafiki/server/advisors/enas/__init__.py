"""ENAS: a controller learns which architectures do well on shared weights."""

"""Compare candidates with the reference over a plan of feeds."""

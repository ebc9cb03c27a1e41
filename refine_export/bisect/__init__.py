"""Find the first node at which two graphs differ."""

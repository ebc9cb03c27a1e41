"""Read weights and recognize the network that they belong to."""

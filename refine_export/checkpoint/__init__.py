"""Read weights and recognise the network that they belong to."""

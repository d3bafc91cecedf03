"""What the tools compute on arrays: labels, features, clusters."""

"""Games: data only, no algorithm."""

"""The sweeper as Hydra finds it."""

"""The launcher as Hydra finds it."""

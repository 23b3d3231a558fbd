"""Search spaces, trials, and who works on which: Optuna behind a Hydra sweeper."""

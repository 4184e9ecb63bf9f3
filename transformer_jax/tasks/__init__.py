"""Tasks: one file each, joining data, model, objective, evaluation and prediction."""

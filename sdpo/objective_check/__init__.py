"""Whether an objective is what an objective must be: its properties, measured on random predictions."""

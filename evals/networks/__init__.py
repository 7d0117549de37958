"""What scorers are built from: the interface of a scorer, preprocessing, tokenizers, towers, heads, weight files."""

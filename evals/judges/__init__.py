"""Judges that are programs of others: their result files, and what becomes of them."""

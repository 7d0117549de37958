"""The training side: objectives, safeguard, bases, pairs, trainer."""

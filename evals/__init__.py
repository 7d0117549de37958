"""The evaluation side: prompts, images, scores, tables, report, tracking. Knows nothing of training."""

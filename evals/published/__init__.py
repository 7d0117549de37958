"""What is published and fetched: weights and prompt files, their pins, and the record of what was fetched."""

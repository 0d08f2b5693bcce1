"""What is profiled: a pipeline by hub id or folder, a built-in synthetic one, or the user's own script."""

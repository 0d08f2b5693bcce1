"""Makes the folder's own modules importable in every test: pytest puts a conftest's folder on the path."""

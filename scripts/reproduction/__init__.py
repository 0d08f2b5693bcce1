"""The published experiment, run again: its arms, its arithmetic, and the page that says what came out."""

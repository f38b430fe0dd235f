"""What people run; only `cli` prints."""

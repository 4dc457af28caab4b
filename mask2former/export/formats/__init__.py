"""What writes and reads a file of each format."""

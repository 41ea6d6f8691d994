"""What every room uses: files and records, the command line, hashing, several processes."""

"""Programs with mistakes: each line that must be rejected ends in `# error: <code>`."""

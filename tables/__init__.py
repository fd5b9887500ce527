"""What is remembered: declaration and stored form of each table."""

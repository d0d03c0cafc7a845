"""What people read: facts first (`summary`), then files."""

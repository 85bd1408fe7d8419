"""Starting, finding and ending child processes and their descendants, for the daemon and the trainer."""

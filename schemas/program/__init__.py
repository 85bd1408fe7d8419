"""Starting the two programs: the command `hotlap`, child processes, and the commands in messages."""

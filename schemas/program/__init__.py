"""How the two programs are started: the command `hotlap`, child processes, and the commands that messages name."""

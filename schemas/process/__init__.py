"""How a child process and its descendants are started, found and ended; shared by the daemon and the trainer."""

"""What the daemon may run and trust: approvals of programs, file permissions, changes of the config."""

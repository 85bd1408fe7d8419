"""Who may do what: approvals of programs, file permissions, changes of the config."""

"""Security: approvals of programs, checks of file permissions, and changes of the settings file."""

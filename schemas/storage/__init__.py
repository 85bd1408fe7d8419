"""Files and folders: atomic writes, careful opening, locks, and the paths of a project."""

"""Child processes: start, contain, log and end them, with all their descendants."""

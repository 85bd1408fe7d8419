"""A user's expert in a process of its own: client, server and what crosses between them."""

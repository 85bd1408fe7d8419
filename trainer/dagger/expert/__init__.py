"""An expert in a process of its own: client, server and the messages between them."""

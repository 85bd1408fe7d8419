"""Experts in processes of their own: client, server, and the messages between them."""

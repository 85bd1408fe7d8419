"""The settings that an online run starts with if nothing else sets them, by kind of environment."""

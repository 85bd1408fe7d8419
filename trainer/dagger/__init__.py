"""DAgger: for each milestone, a policy learns to act as an expert does. Importing this does not import torch."""

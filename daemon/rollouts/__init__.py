"""The input of rollouts: watch and scan Exports, read and check files, accept or reject them."""

"""A simulated engine: an example of how an engine reads models and writes rollouts.

Except for the command line, it uses the standard library, numpy and the racing game, and nothing else of Hotlap. The
tasks of an engine are in three short modules: `model_file` (load and run a model), `rollout_file` (write experiences)
and `engine` (the loop between the two folders).
"""

"""A whole engine without a game: the example of how a client reads models and writes rollouts.

Standard library, numpy and the racing world; nothing of the daemon's, the trainer's or the shared shapes'. What a
client must do is in three short modules: `model_file` (load and run a model), `rollout_file` (write experiences) and
`engine` (the loop between the two folders).
"""

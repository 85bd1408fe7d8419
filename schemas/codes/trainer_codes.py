"""The codes of the trainer: cycles, training without an engine, experts."""

from __future__ import annotations

from schemas.codes.code import Code

TRAINER = {
    "E_CRASH": Code("the system ended a trainer that crashed", "see the remedy in the message; try again"),
    "E_JOB": Code("the trainer cannot read its job", "install daemon and trainer from the same version"),
    "E_OUTPUT": Code("the trainer cannot write to its folder", "correct its permissions; free some disk space"),
    "E_PARENT": Code("the parent model cannot be used", "publish another one with `hotlap publish`"),
    "E_CHECKPOINT": Code("a checkpoint cannot be loaded safely", "use one that a trainer of this version wrote"),
    "E_NO_EPOCH": Code("the epoch does not exist", "choose one of the checkpoints in the cycle's folder"),
    "E_MEMORY": Code("memory ran out", "use fewer rollouts, a smaller batch_size, or more memory"),
    "E_DISK": Code("the trainer cannot use the disk", "free some space; check the disk"),
    "W_LEFT_OUT": Code(
        "experiences with nan, inf or very large numbers were left out",
        "look for a division by zero in the engine, or set agent.observation_limit",
    ),
    "W_DEAD_OBSERVATION": Code("some observations never change", "check the sensors with the numbers that are named"),
    "W_OBSERVATION_RANGE": Code(
        "an observation is sometimes much larger than usual, so that its other values hardly count",
        "set agent.observation_limit, and clamp in the engine too",
    ),
    "W_OUTLIERS": Code(
        "numbers far outside the usual range of their column count as the edge of that range while training",
        "correct the sensor, the reward or the exporter that writes them; see `hotlap docs outliers`",
    ),
    "W_RECOVERED": Code(
        "statistics that an earlier version had computed from outliers start again",
        "nothing; the policy stays as it is, and critics and optimizers start from scratch",
    ),
    "W_CRITIC_OBSERVATIONS": Code(
        "some new rollouts have no critic observations, or another number of them, and are used without",
        "let every client write the same number of `critic_observations` in every file",
    ),
    "W_ACTION_BOUNDS": Code("recorded actions are outside their bounds", "record actions after they are clamped"),
    "W_CONSTANT_REWARD": Code(
        "all rewards are equal, so they do not show which actions are better", "reward better behaviour more"
    ),
    "W_SPARSE_REWARD": Code(
        "nearly all steps earn the same reward, so there is little to learn from",
        "reward progress toward the goal, or explore with more noise",
    ),
    "W_TIME_LIMIT": Code(
        "version 1 rollouts show a time limit: many episodes end after exactly the same number of steps",
        "nothing is lost; version 2 states how an episode ended",
    ),
    "W_REWARD_SCALE": Code("rewards are very large or very small", "scale them to about 0.01 to 100 per step"),
    "W_LOGP_BROKEN": Code(
        "the recorded log_probs are missing, all equal, or not log densities",
        "record the log density of the clamped action",
    ),
    "W_LOGP_MISMATCH": Code(
        "the recorded log_probs fit no published model", "check that the engine loads the published models"
    ),
    "W_STRANGER": Code(
        "the engine uses weights of its own", "nothing; this is expected until it loads a published model"
    ),
    "W_EARLY_ROLLOUTS": Code(
        "rollouts that are older than the project's models, recorded with another policy, were trained on",
        "nothing; they count less, the less the present policy would act like them",
    ),
    "W_FAR_STRANGER": Code(
        "the behaviour policy is too far from the new policy, so this cycle trains the value function only",
        "let the engine load the published models",
    ),
    "W_MIRROR": Code(
        "[agent.mirror] does not fit what the game does, so the cycle trained without it",
        "check the pairs and signs of the observations that are named, and of the actions; if something pulls to one "
        "side, remove [agent.mirror]; see `hotlap docs other-engine`",
    ),
    "W_STALE": Code("the engine uses an old model", "let it read best_model_path.txt more often"),
    "W_CANARY": Code("the trainer's check of its own log_probs failed: a bug", "report it with the cycle's log"),
    "W_CHECKPOINT": Code("a checkpoint was left out of the ranking", "see the message"),
    "W_EPOCH": Code(
        "the epoch that auto_load_model_epoch asks for cannot be published; the best one was",
        "set auto_load_model_epoch = 0",
    ),
    "W_REPLAY": Code(
        "the experiences beside an online run's checkpoint do not exist or are damaged",
        "nothing; td3 continues with new experiences, so it learns more slowly at first",
    ),
    "W_OPTIMIZER": Code(
        "the parent's optimizer state or its critics do not fit, so that part starts from scratch",
        "nothing; with td3, the policy does not change in the first half of this cycle",
    ),
    "W_ANALYTIC_GRADIENT": Code(
        "this version of torch does not have, or changed, what the fast gradient needs; autograd is used",
        "nothing, or `pip install torch==2.13.0` there to train faster",
    ),
    "W_ROLLOUT_SKIPPED": Code(
        "a rollout could not be read again and was left out", "do not change or remove files in Exports"
    ),
}

WITHOUT_AN_ENGINE = {
    "E_ENV": Code("an environment cannot be created, or it raised an exception", "correct its name, or fix it"),
    "E_ENV_NAN": Code("the environment returned nan or inf", "fix it; the last checkpoint is not affected"),
    "E_STATE": Code(
        "a start state is missing, damaged, or from another game",
        "delete it; the milestone before it creates it again",
    ),
    "E_EXTRA": Code("a package that this needs is not installed", "install the extra that the message names"),
    "E_NO_RUN": Code("the run to continue does not exist", "start without --resume"),
    "E_OTHER_RUN": Code("the run to continue was made in another environment", "start a new run from its model"),
    "E_RUN_EXISTS": Code("there is a run of this name", "--resume NAME continues it, --force starts again"),
    "E_BUSY": Code("another run uses this folder", "wait for it, stop it, or use another folder"),
    "E_DIVERGED": Code(
        "the policy contains weights that are not finite",
        "lower the learning rate, then continue from the last checkpoint",
    ),
}

EXPERTS = {
    "E_EXPERT": Code("an expert cannot be used", "see the message"),
    "E_EXPERT_MISSING": Code("a milestone has no expert", "write <policy-dir>/<MILESTONE_ID>.py"),
    "E_EXPERT_NO_RUN": Code("an expert does not define run(state)", "define it; see `hotlap docs dagger`"),
    "E_EXPERT_RAISED": Code("an expert raised an exception", "fix it at the line that the message names"),
    "E_EXPERT_HUNG": Code("one call of an expert took too long", "make it faster, or raise --expert-timeout"),
    "E_EXPERT_DIED": Code("the process of an expert ended", "see the milestone's log"),
    "E_EXPERT_NONSENSE": Code(
        "an expert returned something that is not an action", "return an index, a name or an array"
    ),
    "E_DEMONSTRATION": Code(
        "recorded play cannot be used", 'write "source": "human" into the rollouts, and the actions of this environment'
    ),
    "E_EXPERT_WEAK": Code("an expert succeeds too rarely to learn from it", "improve it, or lower --min-success-rate"),
}

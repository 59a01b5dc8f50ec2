"""What every field of a LoRA `adapter_config.json` means for ΔW: one decision a field.

The names are those of LoraConfig and AdaLoraConfig in PEFT 0.21.2, and a few of its predecessors.
A field that is set (neither false, nor empty, nor null) and is in none of these tables is refused,
because a field that is not known may change what ΔW is; but not one that other trainers write of
their own runs: rates, paths, names, versions (`of_a_run`).
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Refusal(NamedTuple):
    """Why ΔW is not s·B·A. `takable`: B·A is still a meaningful direction, on explicit request."""

    what: str
    why: str
    takable: bool


# fmt: off
# Read and acted upon in `_config` and `_peft`.
USED = frozenset({
    "peft_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "rank_pattern",
    "alpha_pattern", "bias", "lora_bias", "modules_to_save", "target_modules",
    "target_parameters", "trainable_token_indices", "init_lora_weights", "loftq_config",
    "alora_invocation_tokens", "peft_version", "init_r",
})

# No effect on the values of the update that the file stores.
HARMLESS = frozenset({
    # which model and code loads it
    "task_type", "auto_mapping", "revision", "inference_mode", "runtime_config", "megatron_core",
    # which modules were adapted: the tensors themselves say so
    "exclude_modules", "layers_to_transform", "layers_pattern",
    # how it was trained, or initialised (what that does is for `init_lora_weights` to say)
    "lora_dropout", "eva_config", "corda_config", "lora_ga_config", "velora_config",
    "qalora_group_size",
    # the factors keep their orientation; only an assembled ΔW would be transposed
    "fan_in_fan_out", "merge_weights",
    # tied layers: each stored pair is still its own B·A
    "ensure_weight_tying", "modules_to_tie", "target_modules_to_tie",
    # AdaLoRA's rank schedule and regulariser
    "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step",
})
# fmt: on

REFUSED = {
    "use_dora": Refusal(
        "use_dora", "DoRA rescales the rows of W + s·B·A, which needs the base weights", True
    ),
    "kasa_config": Refusal(
        "kasa_config", "KaSA truncates the base weights and puts a diagonal between B and A", True
    ),
    "monteclora_config": Refusal("monteclora_config", "MonteCLoRA adds sampled factors to A", True),
    "use_qalora": Refusal(
        "use_qalora", "QALoRA's A acts on pooled inputs, not on the module's own", False
    ),
    "use_bdlora": Refusal(
        "use_bdlora", "BD-LoRA stores blocks of a block-diagonal factor, not the factor", False
    ),
    "layer_replication": Refusal(
        "layer_replication", "its layers are copies, numbered unlike the base model's", True
    ),
    "arrow_config": Refusal(
        "arrow_config", "Arrow mixes several adapters token by token, so no one ΔW is applied", True
    ),
    "megatron_config": Refusal(
        "megatron_config", "Megatron's parallel layers may store one rank's shard only", False
    ),
}

# fmt: off
# Of ms-swift, LLaMA-Factory, Unsloth, axolotl and TRL: how a run was made, which is noted.
NOTED = frozenset({
    "model_id", "model_name", "model_type", "model_revision", "adapter_name",
    "adapter_name_or_path",
    "lora_dtype", "lorap_lr_ratio", "lorap_emb_lr", "loraplus_lr_ratio", "loraplus_lr_embedding",
    "swift_version", "unsloth_fixed", "unsloth_version", "unsloth_training", "llamafactory_version",
    "axolotl_version", "trl_version", "transformers_version", "torch_version", "framework_version",
    "finetuning_type", "train_type", "tuner_backend", "stage", "template", "cutoff_len",
    "max_seq_length", "max_length", "seed", "epochs", "num_epochs", "num_train_epochs", "max_steps",
    "batch_size", "micro_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps",
    "gradient_checkpointing", "use_gradient_checkpointing", "optimizer", "optim", "lr",
    "lr_scheduler", "lr_scheduler_type", "warmup_ratio", "warmup_steps", "weight_decay",
    "torch_dtype", "bf16", "fp16", "load_in_4bit", "load_in_8bit", "task", "tags", "license",
    "author", "description",
})
# fmt: on
_OF_A_RUN = re.compile(
    r"(.+_)?(lr|learning_rate|lr_ratio|dir|path|version|dataset|datasets|run_name|project)"
)


def of_a_run(name: str) -> bool:
    """Whether a field only tells of a training run: its rate, its paths, its names."""
    return name in NOTED or _OF_A_RUN.fullmatch(name) is not None


# init_lora_weights by its lower-case value; `pissa` also as `pissa_niter_<n>`.
PLAIN_INITS = frozenset({"true", "false", "gaussian", "eva", "orthogonal", "mica", "loftq"})
BASE_CHANGING_INITS = {
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "corda": "CorDA",
    "lora_ga": "LoRA-GA",
}

# Other kinds of adapters, with what their update is; any further peft_type is refused too.
OTHER_TYPES = {
    "LOHA": "its update is a Hadamard product of two low-rank matrices",
    "LOKR": "its update is a Kronecker product",
    "OFT": "it rotates the base weights",
    "BOFT": "it rotates the base weights",
    "HRA": "it reflects the base weights",
    "VERA": "its factors are shared random matrices",
    "IA3": "it rescales activations",
    "FOURIERFT": "its update is given by Fourier coefficients",
    "XLORA": "it mixes several adapters token by token",
    "HIRA": "its update is multiplied by the base weights",
    "LN_TUNING": "it trains normalisation layers",
    "SHIRA": "its update is sparse, not low-rank",
    "PROMPT_TUNING": "it trains prompts, not weights",
    "P_TUNING": "it trains prompts, not weights",
    "PREFIX_TUNING": "it trains prompts, not weights",
    "MULTITASK_PROMPT_TUNING": "it trains prompts, not weights",
    "ADAPTION_PROMPT": "it trains prompts, not weights",
    "TRAINABLE_TOKENS": "it trains single embedding rows",
}

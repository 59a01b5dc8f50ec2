"""Small results for the report: tasks in two topics, one of them with a part of another."""

import numpy as np

import jaxtask as jt

METRICS = ("grassmann", "cosine", "spectral_l1", "rec", "entropy_source", "entropy_projected",
           "energy_core", "residual")  # fmt: skip
TASKS = ("one", "two", "three & <b>more</b>", "narrow", "a-$name$-that-is-much-longer-than-others")
GROUPS = {"first": ["one", "two", "narrow"], "second": [TASKS[2], TASKS[4]]}


def bank(tasks=TASKS, layers=3, modules=("self_attn.q_proj", "self_attn.v_proj"), d=48, r=4):
    """Tasks share half of their spaces with every second one; "narrow" lies inside "one"."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype("f4")

    made = {task: {} for task in tasks}
    for layer in range(layers):
        for module in modules:
            topics = [(normal(d, r // 2), normal(r // 2, d)) for _ in range(2)]
            for n, task in enumerate(tasks):
                out, inp = topics[n // 2 % 2]
                B = np.concatenate([out, normal(d, r - r // 2)], axis=1)
                A = np.concatenate([inp, normal(r - r // 2, d)], axis=0)
                made[task][f"layers.{layer}.{module}"] = (B, A)
            if {"one", "narrow"} <= made.keys():
                B, A = made["one"][f"layers.{layer}.{module}"]
                made["narrow"][f"layers.{layer}.{module}"] = (B @ normal(r, 2), normal(2, r) @ A)
    return jt.AdapterBank.from_factors(made)


def small_result(keep=("angles", "spectra"), metrics=METRICS, **options):
    return jt.compare(bank(**options), metrics=metrics, keep=keep, command="jaxtask compare …")

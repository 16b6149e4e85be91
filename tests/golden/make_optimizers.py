#!/usr/bin/env python3
"""Golden steps of PyTorch's optimizers for the tests of qat/optimizer.

    python3 tests/golden/make_optimizers.py      # needs torch 1.13; rewrites torch/optimizers.safetensors

One set of parameters, STEPS gradients for each and a learning rate per step (lrs); the first is 0, as
in a warm-up. Computed in float64 from f32 inputs, rounded once at the end.
    in:  init.NAME, gK.NAME (K = 1 … STEPS), multiplier.stem.weight, lrs
    out: CASE.NAME after all steps, and the state, CASE.STATE.NAME, STATE as qat/update/optimizer.h names it

Cases: sgd, nesterov (momentum 0.9, weight decay 0.05 on tensors of two or more dimensions), bias2
(the same, biases at twice the rate), clipped (sgd behind clip_grad_norm_ to 3, which bites in some
steps), adamw (decay 0.1), adamw_clipped; sgd_multiplied: torch's SGD with the gradient of stem.weight
multiplied, which decays by itself alone; adamw_multiplied: RepOptimizer's rule, torch has none,
written out here.
"""

import torch

from make_torch import f32_normal, save

STEPS = 5
LRS = [0.0, 0.1, 0.07, 0.1, 0.02]
SHAPES = {"stem.weight": (4, 3, 3, 3), "stem.bias": (4,), "linear.weight": (3, 4), "linear.bias": (3,)}
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
CLIP = 3.0


def groups(params, decay, bias_lr):
    """One group per parameter, so that each has its decay and its share of the learning rate."""
    return [{"params": [p], "weight_decay": decay if p.dim() >= 2 else 0.0,
             "share": bias_lr if name.endswith("bias") else 1.0} for name, p in params.items()]


def run(init, gradients, make, decay, multiplier=None, clip=0.0, bias_lr=1.0):
    params = {name: value.clone().requires_grad_() for name, value in init.items()}
    optimizer = make(groups(params, decay, bias_lr))
    bites = []
    for lr, gradient in zip(LRS, gradients):
        for group in optimizer.param_groups:
            group["lr"] = lr * group["share"]
        for name, p in params.items():
            p.grad = gradient[name].clone()
            if multiplier is not None and name == "stem.weight":
                p.grad *= multiplier
        if clip:
            bites.append(float(torch.nn.utils.clip_grad_norm_(params.values(), clip)) > clip)
        optimizer.step()
    assert not clip or (any(bites) and not all(bites)), bites
    state = {name: optimizer.state[p] for name, p in params.items()}
    return params, state


def multiplied_adamw(init, gradients, decay, multiplier):
    """RepOptimizer's AdamW: the multiplier on the gradient and once more on the numerator."""
    params = {name: value.clone() for name, value in init.items()}
    state = {name: {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
             for name, p in params.items()}
    for k, (lr, gradient) in enumerate(zip(LRS, gradients), 1):
        for name, p in params.items():
            mask = multiplier if name == "stem.weight" else torch.ones_like(p)
            g, m, v = gradient[name] * mask, state[name]["exp_avg"], state[name]["exp_avg_sq"]
            m.mul_(BETAS[0]).add_(g, alpha=1 - BETAS[0])
            v.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
            p.mul_(1 - lr * (decay if p.dim() >= 2 else 0.0))
            denominator = v.sqrt() / (1 - BETAS[1] ** k) ** 0.5 + ADAM_EPS
            p.sub_(lr / (1 - BETAS[0] ** k) * (m * mask) / denominator)
    return params, state


def main():
    torch.manual_seed(20240301)
    init = {name: f32_normal(*shape) for name, shape in SHAPES.items()}
    # of different sizes, so that clipping bites in some steps only
    scales = [0.125, 1.0, 0.25, 2.0, 0.125]
    gradients = [{name: scale * f32_normal(*shape) for name, shape in SHAPES.items()}
                 for scale in scales]
    multiplier = f32_normal(*SHAPES["stem.weight"])

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=1.0, momentum=0.9)

    def nesterov(parameters):
        return torch.optim.SGD(parameters, lr=1.0, momentum=0.9, nesterov=True)

    def adamw(parameters):
        return torch.optim.AdamW(parameters, lr=1.0, betas=BETAS, eps=ADAM_EPS)

    cases = {
        "sgd": run(init, gradients, sgd, 0.05),
        "nesterov": run(init, gradients, nesterov, 0.05),
        "bias2": run(init, gradients, nesterov, 0.05, bias_lr=2.0),
        "clipped": run(init, gradients, sgd, 0.05, clip=CLIP),
        "adamw": run(init, gradients, adamw, 0.1),
        "adamw_clipped": run(init, gradients, adamw, 0.1, clip=CLIP),
        "sgd_multiplied": run(init, gradients, nesterov, 0.05, multiplier=multiplier),
        "adamw_multiplied": multiplied_adamw(init, gradients, 0.1, multiplier),
    }
    # the rule written out is torch's where the multiplier is 1
    plain, _ = multiplied_adamw(init, gradients, 0.1, torch.ones_like(multiplier))
    assert all(torch.allclose(plain[n], cases["adamw"][0][n], rtol=1e-12) for n in init)

    tensors = {"lrs": torch.tensor(LRS, dtype=torch.float64), "multiplier.stem.weight": multiplier}
    tensors.update({f"init.{name}": value for name, value in init.items()})
    for k, gradient in enumerate(gradients, 1):
        tensors.update({f"g{k}.{name}": value for name, value in gradient.items()})
    names = {"momentum_buffer": "velocity", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
    for case, (params, state) in cases.items():
        tensors.update({f"{case}.{name}": p for name, p in params.items()})
        for name, values in state.items():
            tensors.update({f"{case}.{names[key]}.{name}": value for key, value in values.items()
                            if key in names})
    save("optimizers.safetensors", tensors, command="python3 tests/golden/make_optimizers.py",
         clip=str(CLIP))


if __name__ == "__main__":
    main()

"""Sparse variational Gaussian processes of principal components over x, y, z."""

from __future__ import annotations

import gpytorch
import numpy as np
import torch

from isost._core.baselines.regression import Regressor

COMPONENTS, INDUCING, BATCH, STEPS = 10, 100, 512, 150
NATURAL_RATE, LEARNING_RATE = 0.1, 0.05


class _Process(gpytorch.models.ApproximateGP):
    """Independent processes, one a component, with a common set of inducing points to start from."""

    def __init__(self, inducing: torch.Tensor, n_components: int) -> None:
        batch = torch.Size([n_components])
        distribution = gpytorch.variational.NaturalVariationalDistribution(inducing.shape[0], batch_shape=batch)
        strategy = gpytorch.variational.IndependentMultitaskVariationalStrategy(
            gpytorch.variational.VariationalStrategy(self, inducing, distribution, learn_inducing_locations=False),
            num_tasks=n_components,
        )
        super().__init__(strategy)
        self.mean_module = gpytorch.means.ConstantMean(batch_shape=batch)
        kernel = gpytorch.kernels.MaternKernel(nu=1.5, ard_num_dims=inducing.shape[1], batch_shape=batch)
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel, batch_shape=batch)

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def fit_gaussian_process(places: np.ndarray, features: np.ndarray, rng: np.random.Generator) -> Regressor:
    """Fit the leading components by stochastic variational inference (Hensman et al. 2013)."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    n_components = min(COMPONENTS, features.shape[1])
    scale = features[:, :n_components].std(axis=0)
    x = torch.tensor(places, dtype=torch.float32)
    y = torch.tensor(features[:, :n_components] / scale, dtype=torch.float32)
    first = x[torch.randperm(len(x), generator=generator)[: min(INDUCING, len(x))]].clone()
    process = _Process(first, n_components)
    likelihood = gpytorch.likelihoods.MultitaskGaussianLikelihood(n_components, rank=0, has_global_noise=False)
    bound = gpytorch.mlls.VariationalELBO(likelihood, process, num_data=len(x))
    # Natural gradients settle the variational distribution within a hundred steps, where Adam takes thousands.
    natural = gpytorch.optim.NGD(process.variational_parameters(), num_data=len(x), lr=NATURAL_RATE)
    adam = torch.optim.Adam([*process.hyperparameters(), *likelihood.parameters()], lr=LEARNING_RATE)
    process.train()
    for _ in range(STEPS):
        rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        natural.zero_grad()
        adam.zero_grad()
        loss = -bound(process(x[rows]), y[rows])
        loss.backward()
        natural.step()
        adam.step()
    process.eval()

    def predict(asked: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            mean = process(torch.tensor(asked, dtype=torch.float32)).mean
        return mean.numpy() * scale

    return predict

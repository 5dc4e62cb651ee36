"""FactorVAE: its permutation and its discriminator against loops and closed forms of Gaussians, its losses and the
steps of its two players against ones written out here.
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal, kl_divergence

from comparison import normals
from experiment import TrainingConfig
from factor_vae import Discriminator, FactorVAE, permute_dims
from tiny_models import TINY, correlated, random_batch, some_images, tiny_model
from trainer import train
from vae_paper import VAE

# --- Permuted latents ------------------------------------------------------------------------------------------------


def permuted_in_loops(z, keys):
    """Each column in the order in which its keys rise."""
    result = torch.empty_like(z)
    for d in range(z.shape[1]):
        for place, origin in enumerate(sorted(range(len(z)), key=lambda i: keys[i, d].item())):
            result[place, d] = z[origin, d]
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (7, 3), (50, 10)], ids=str)
def test_each_column_is_put_in_the_order_of_its_keys(shape, dtype):
    z, keys = normals(21, *shape).to(dtype), normals(22, *shape)
    got = permute_dims(z, keys)
    assert got.dtype == dtype
    assert torch.equal(got, permuted_in_loops(z, keys))
    assert torch.equal(got, permute_dims(z, keys))


def test_permuting_keeps_the_marginals_and_destroys_the_dependence():
    z = normals(23, 5000, 3) @ torch.linalg.cholesky(correlated(0.9, 3)).T
    before = z.clone()
    permuted = permute_dims(z, normals(24, 5000, 3))
    assert torch.equal(z, before)
    assert torch.equal(permuted.sort(dim=0).values, z.sort(dim=0).values)
    assert np.corrcoef(z.T.numpy())[np.triu_indices(3, 1)].min() > 0.88
    np.testing.assert_allclose(np.corrcoef(permuted.T.numpy()), np.eye(3), atol=0.045)  # three standard errors
    # Nor is anything left of the order: where a latent went does not depend on where it was.
    for d in range(3):
        assert abs(np.corrcoef(permuted[:, d].numpy(), z[:, d].numpy())[0, 1]) < 0.045


def test_columns_move_by_themselves_and_never_into_each_other():
    z = torch.arange(40.0).view(-1, 1) + torch.tensor([0.0, 1000.0, 2000.0])
    permuted = permute_dims(z, normals(25, 40, 3)) - torch.tensor([0.0, 1000.0, 2000.0])
    assert (permuted.sort(dim=0).values == torch.arange(40.0).view(-1, 1)).all()
    for a, b in itertools.combinations(range(3), 2):
        assert not torch.equal(permuted[:, a], permuted[:, b])


# --- The discriminator -----------------------------------------------------------------------------------------------


def test_the_discriminator_is_its_layers_written_out():
    torch.manual_seed(0)
    discriminator = Discriminator(3, width=5, depth=2).double()
    shapes = [tuple(parameter.shape) for parameter in discriminator.parameters()]
    assert shapes == [(5, 3), (5,), (5, 5), (5,), (1, 5), (1,)]
    z = normals(26, 7, 3)
    weights = [parameter.detach().numpy() for parameter in discriminator.parameters()]
    h = z.numpy()
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        h = h @ weight.T + bias
        h = np.where(h > 0, h, 0.2 * h)
    got = discriminator(z)
    assert got.shape == (7,)
    np.testing.assert_allclose(got.detach(), (h @ weights[-2].T + weights[-1])[:, 0], rtol=1e-11)


def test_the_papers_discriminator_is_the_default():
    model = FactorVAE(**TINY)
    sizes = [tuple(layer.weight.shape) for layer in model.discriminator.layers if isinstance(layer, torch.nn.Linear)]
    assert sizes == [(1000, 3), *5 * [(1000, 1000)], (1, 1000)]


@pytest.mark.parametrize("r", [0.8, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_trained_discriminators_mean_logit_is_the_total_correlation(r, monkeypatch):
    """Of N(0, [[1, r], [r, 1]]), whose TC is -log(1 - r^2) / 2; by the loss of FactorVAE.terms, which sees 2D codes."""
    torch.manual_seed(0)
    model = FactorVAE(discriminator_width=64, discriminator_depth=2, **TINY | {"latent_dim": 2})
    generator = torch.Generator().manual_seed(0)
    scale = torch.linalg.cholesky(correlated(r)).float()

    def draw(count):
        return torch.randn(count, 2, generator=generator) @ scale.T

    def encode(x, c=None):
        mu = draw(len(x))
        return mu, torch.full_like(mu, -60.0)

    monkeypatch.setattr(model, "encode", encode)
    optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1200)
    x = torch.zeros(512, *model.image_shape)
    for _ in range(1200):
        optimizer.zero_grad()
        model.terms(x, torch.randn(512, 2, 2, generator=generator))["discriminator_nll"].mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        estimate = model.terms(x.new_zeros(50_000, *model.image_shape), torch.zeros(50_000, 2, 2))["total_correlation"]
    assert estimate.mean().item() == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.1)


# --- The FactorVAE ---------------------------------------------------------------------------------------------------


def discriminators_nll_in_loops(model, z, keys):
    """-log D of the first half, -log(1 - D) of the second after its latents were permuted: (N,)."""
    half = (len(z) + 1) // 2
    product = permuted_in_loops(z[half:], keys[half:])
    return torch.cat([-F.logsigmoid(model.discriminator(z[:half])), -F.logsigmoid(-model.discriminator(product))])


@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_the_terms_of_the_factor_vae_are_their_definitions(count):
    model = tiny_model("FactorVAE", gamma=7.0)
    x, eps = random_batch(model, count)
    with torch.no_grad():
        terms = model.terms(x, eps)
        mu, logvar = model.encoder(x)
        z = mu + torch.exp(logvar / 2) * eps[:, 0]
        nll = -Bernoulli(logits=model.decoder(z), validate_args=False).log_prob(x).sum(dim=(1, 2, 3))
        kl = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum(dim=1)
        want = {
            "loss": nll + kl + 7 * model.discriminator(z),
            "reconstruction_nll": nll,
            "kl_divergence": kl,
            "total_correlation": model.discriminator(z),
            "discriminator_nll": discriminators_nll_in_loops(model, z, eps[:, 1]),
        }
    assert terms.keys() == want.keys()
    for name, value in want.items():
        assert terms[name].shape == (count,)
        assert terms[name].dtype == torch.float64
        torch.testing.assert_close(terms[name], value, rtol=1e-11, atol=1e-12, msg=name)


def test_the_loss_teaches_the_vae_and_never_the_discriminator():
    model = tiny_model("FactorVAE", likelihood="gaussian", sigma="learned")
    model.terms(*random_batch(model, 6))["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("discriminator"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_the_discriminators_loss_teaches_the_discriminator_alone():
    model = tiny_model("FactorVAE")
    model.terms(*random_batch(model, 6))["discriminator_nll"].sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("discriminator"):
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_the_total_correlation_teaches_the_encoder_through_the_discriminator():
    model = tiny_model("FactorVAE")
    x, eps = random_batch(model, 6)
    encoder = list(model.encoder.parameters())
    got = torch.autograd.grad(model.terms(x, eps)["total_correlation"].sum(), encoder)
    mu, logvar = model.encoder(x)
    want = torch.autograd.grad(model.discriminator(mu + torch.exp(logvar / 2) * eps[:, 0]).sum(), encoder)
    for ours, theirs in zip(got, want, strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("count", "joint"), [(8, 4), (7, 4)], ids=["even", "odd"])
@pytest.mark.parametrize("answer", [1000.0, -1000.0], ids=["always joint", "always product"])
def test_whoever_always_answers_the_same_pays_for_one_half(count, joint, answer):
    model = tiny_model("FactorVAE")
    with torch.no_grad():
        model.discriminator.layers[-1].weight.zero_()
        model.discriminator.layers[-1].bias.fill_(answer)
        terms = model.terms(*random_batch(model, count))
    paid = [0.0] * joint + [1000.0] * (count - joint)
    assert terms["discriminator_nll"].tolist() == (paid if answer > 0 else [1000.0 - nll for nll in paid])
    assert terms["total_correlation"].tolist() == count * [answer]


def test_a_codes_noise_has_no_part_in_its_permutation():
    """Keys that followed the noise would sort the codes by it, and the permuted latents would be as dependent."""
    model = tiny_model("FactorVAE")
    assert model.noise_shape == (2, 3)
    judged = []
    model.discriminator.register_forward_pre_hook(lambda module, inputs: judged.append(inputs[0].detach()))
    x, eps = random_batch(model, 400)
    others = torch.stack([eps[:, 0], normals(27, 400, 3)], dim=1)
    for noise in (eps, others):
        model.terms(x, noise)
    (z, both), (same_z, other) = judged[:2], judged[2:]
    assert torch.equal(z, same_z)
    for codes in (both, other):
        assert torch.equal(codes[:200], z[:200])
        assert torch.equal(codes[200:].sort(dim=0).values, z[200:].sort(dim=0).values)
    assert not torch.equal(both, other)


@pytest.mark.parametrize("sigma", [1.0, "learned"], ids=["sigma fixed", "sigma learned"])
def test_two_optimisers_share_the_parameters_between_them(sigma):
    model = tiny_model("FactorVAE", likelihood="gaussian", sigma=sigma)
    optimizers = model.optimizers(0.02)
    assert list(optimizers) == ["loss", "discriminator_nll"]
    settings = [(optimizer.defaults["lr"], optimizer.defaults["betas"]) for optimizer in optimizers.values()]
    assert settings == [(0.02, (0.9, 0.999)), (0.02, (0.5, 0.9))]
    assert all(type(optimizer) is torch.optim.Adam for optimizer in optimizers.values())
    held = [[id(p) for group in o.param_groups for p in group["params"]] for o in optimizers.values()]
    assert sorted(itertools.chain(*held)) == sorted(id(parameter) for parameter in model.parameters())
    assert set(held[1]) == {id(parameter) for parameter in model.discriminator.parameters()}


def test_training_takes_the_steps_of_two_players_with_graphs_of_their_own():
    model = tiny_model("FactorVAE", gamma=5.0)
    expected = copy.deepcopy(model)
    images = some_images(9)
    config = TrainingConfig(epochs=3, batch_size=4, lr=0.01, seed=5, precision="float64")
    rows = train(model, images, images, config)

    order, noise = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    ours = [*expected.encoder.parameters(), *expected.decoder.parameters()]
    theirs = list(expected.discriminator.parameters())
    vae, discriminator = torch.optim.Adam(ours, lr=0.01), torch.optim.Adam(theirs, lr=0.01, betas=(0.5, 0.9))
    for _ in range(3):
        permutation = torch.randperm(9, generator=order)
        sums = np.zeros(2)
        for chosen in (permutation[:4], permutation[4:]):
            # The trainer's pixels are float32 until they are divided.
            x = (images.images[chosen] / 255).double()
            eps = torch.randn(len(chosen), 2, 3, generator=noise, dtype=torch.float64)
            mu, logvar = expected.encoder(x)
            z = mu + torch.exp(logvar / 2) * eps[:, 0]
            nll = F.binary_cross_entropy_with_logits(expected.decoder(z), x, reduction="sum")
            kl = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum()
            loss = nll + kl + 5 * expected.discriminator(z).sum()
            vae.zero_grad()
            (loss / len(chosen)).backward()
            vae.step()

            discriminator.zero_grad()  # of what the VAE's loss left there
            judgement = discriminators_nll_in_loops(expected, z.detach(), eps[:, 1]).sum()
            (judgement / len(chosen)).backward()
            discriminator.step()
            sums += loss.item(), judgement.item()
    for name, parameter in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], parameter, rtol=0, atol=1e-9, msg=name)
    means = [rows[-1]["train_loss"], rows[-1]["train_discriminator_nll"]]
    np.testing.assert_allclose(means, sums / 9, atol=1e-4)  # the table has four decimals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": math.inf}, "gamma"),
        ({"gamma": math.nan}, "gamma"),
        ({"discriminator_width": 0}, "discriminator_width"),
        ({"discriminator_depth": 0}, "discriminator_depth"),
        ({"discriminator_depth": 2.5}, "discriminator_depth"),
        ({"latent_dim": 0}, "latent_dim"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused_by_the_factor_vae(options, message):
    with pytest.raises(ValueError, match=message):
        FactorVAE(**TINY | options)


def test_the_total_correlation_has_no_beta():
    """gamma stands in its place."""
    with pytest.raises(TypeError, match=r"FactorVAE has no option 'beta': it has .*gamma"):
        FactorVAE(**TINY, beta=4.0)


def test_without_its_weight_a_factor_vae_is_a_vae():
    """gamma = 0: the same loss, the same gradients of the VAE's own parameters, and the same steps."""
    model = tiny_model("FactorVAE", gamma=0.0, likelihood="gaussian", sigma="learned")
    vae = VAE(**TINY, likelihood="gaussian", sigma="learned").double()
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("discriminator")}
    vae.load_state_dict(own)
    x, eps = random_batch(model, 6)
    ours, theirs = model.terms(x, eps), vae.terms(x, eps[:, 0])
    for name, term in theirs.items():
        assert torch.equal(ours[name], term), name
    ours["loss"].sum().backward()
    theirs["loss"].sum().backward()
    parameters = dict(model.named_parameters())
    for name, parameter in vae.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        assert torch.equal(parameters[name].grad, parameter.grad), name
    for each in (model, vae):
        each.optimizers(0.01)["loss"].step()
    for name, parameter in vae.named_parameters():
        assert torch.equal(parameters[name], parameter), name
    assert (ours["total_correlation"] != 0).all()  # what is not paid for is reported all the same


def test_permuting_no_code_is_refused():
    with pytest.raises(ValueError, match="one image says nothing about the others"):
        permute_dims(torch.zeros(0, 3), torch.zeros(0, 3))

"""`matfn.torch`: gradients against finite differences and torch's own, and what torch does to operators."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import matfn
import matfn.torch as mt
from matfn.catalogue import FUNCTIONS

DIFFERENTIABLE = sorted(name for name, entry in FUNCTIONS.items() if entry.differentiable)


@pytest.fixture(scope="module")
def local() -> Iterator[matfn.LocalClient]:
    """A client of this process."""
    with matfn.LocalClient() as client:
        yield client


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    """Gaussian numbers of a seed, as a leaf."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def complex_gaussian(*shape: int, seed: int = 0) -> Tensor:
    """Complex Gaussian numbers of a seed, as a leaf."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.complex128).requires_grad_()


def hermitian(a: Tensor) -> Tensor:
    """Hermitian positive definite, smooth in `a`."""
    return a @ a.mH / a.shape[-1] + torch.eye(a.shape[-1], dtype=a.dtype)


def complex_lower(a: Tensor) -> Tensor:
    """Lower triangular with a diagonal near 2i."""
    return a.tril(-1) / a.shape[-1] + torch.diag_embed(a.diagonal(dim1=-2, dim2=-1) / 4 + 2j)


def symmetric(a: Tensor) -> Tensor:
    """The symmetric part."""
    return (a + a.mT) / 2


def spd(a: Tensor) -> Tensor:
    """Positive definite, smooth in `a`."""
    return a @ a.mT / a.shape[-1] + torch.eye(a.shape[-1], dtype=a.dtype)


def lower(a: Tensor) -> Tensor:
    """Lower triangular with a diagonal away from 0."""
    return a.tril(-1) / a.shape[-1] + torch.diag_embed(a.diagonal(dim1=-2, dim2=-1).tanh() + 2)


Value = Tensor | tuple[Tensor, ...]
Case = tuple[Callable[..., Value], tuple[Tensor, ...]]
EYE = torch.eye(4, dtype=torch.float64).requires_grad_()
CASES: dict[str, Case] = {
    "root": (lambda a: mt.root(spd(a), 3, 2), (gaussian(2, 4, 4),)),
    "root with g": (lambda a, g: mt.root(spd(a), 2, g=g), (gaussian(4, 4), gaussian(3, 4, seed=1))),
    "root of the identity": (lambda a: mt.root(symmetric(a), 4), (EYE,)),
    "inv_root": (lambda a: mt.inv_root(spd(a), 4), (gaussian(2, 4, 4),)),
    "inv_root with g": (lambda a, g: mt.inv_root(spd(a), 2, g=g), (gaussian(4, 4), gaussian(3, 4, seed=1))),
    "inv_root of the identity": (lambda a: mt.inv_root(symmetric(a), 4), (EYE,)),
    "inv_root, rank 2, shifted": (lambda a: mt.inv_root(a @ a.mT, 4, shift=0.1), (gaussian(4, 2),)),
    "sqrt_pair": (lambda a: mt.sqrt_pair(spd(a)), (gaussian(2, 4, 4),)),
    "sqrt_pair of the identity": (lambda a: mt.sqrt_pair(symmetric(a)), (EYE,)),
    "log": (lambda a: mt.log(spd(a)), (gaussian(2, 4, 4),)),
    "log of the identity": (lambda a: mt.log(symmetric(a)), (EYE,)),
    "exp": (lambda a: mt.exp(symmetric(a), t=-0.5), (gaussian(2, 4, 4),)),
    "power": (lambda a: mt.power(spd(a), -0.7), (gaussian(2, 4, 4),)),
    "power with g": (lambda a, g: mt.power(symmetric(a), 3, g=g), (gaussian(4, 4), gaussian(3, 4, seed=1))),
    "msign, square": (mt.msign, (gaussian(3, 3),)),
    "msign, tall": (mt.msign, (gaussian(2, 5, 3),)),
    "msign, wide": (mt.msign, (gaussian(3, 5),)),
    "msign of the identity": (mt.msign, (EYE,)),
    "mclip": (lambda m: mt.mclip(m, hi=1.0), (gaussian(2, 5, 3),)),
    "mclip, both": (lambda m: mt.mclip(m, hi=1.5, lo=0.5), (gaussian(3, 5),)),
    "eig_clip": (lambda a: mt.eig_clip(symmetric(a), lo=-0.5, hi=0.5), (gaussian(2, 4, 4),)),
    "tri_inv": (lambda a: mt.tri_inv(lower(a)), (gaussian(2, 4, 4),)),
    "tri_solve": (lambda a, b: mt.tri_solve(lower(a), b), (gaussian(4, 4), gaussian(4, 2, seed=1))),
    "tri_solve, transposed": (
        lambda a, b: mt.tri_solve(lower(a).mT, b, lower=False, transpose=True),
        (gaussian(4, 4), gaussian(4, 2, seed=1)),
    ),
    "dplr_solve": (
        lambda d, q, k, b: mt.dplr_solve(d.tanh() + 2, q, k, b),
        (gaussian(5), gaussian(5, 2, seed=1), gaussian(5, 2, seed=2), gaussian(5, 3, seed=3)),
    ),
    "tri_inv, complex": (lambda a: mt.tri_inv(complex_lower(a)), (complex_gaussian(2, 4, 4),)),
    "tri_solve, complex, transposed": (
        lambda a, b: mt.tri_solve(complex_lower(a), b, transpose=True),
        (complex_gaussian(4, 4), complex_gaussian(4, 2, seed=1)),
    ),
    "tri_solve, complex beside real": (
        lambda a, b: mt.tri_solve(complex_lower(a), b),
        (complex_gaussian(4, 4), gaussian(4, 2, seed=1)),
    ),
    "dplr_solve, complex": (
        lambda d, q, k, b: mt.dplr_solve(d / 4 + 2, q, k, b),
        tuple(complex_gaussian(*shape, seed=seed) for seed, shape in enumerate(((5,), (5, 2), (5, 2), (5, 3)))),
    ),
    "frechet_distance, complex": (
        lambda mu, a, nu, b: mt.frechet_distance(mu, hermitian(a), nu, hermitian(b)),
        tuple(complex_gaussian(*shape, seed=seed) for seed, shape in enumerate(((3,), (3, 3), (3,), (3, 3)))),
    ),
    "geometric_mean": (lambda a, b: mt.geometric_mean(spd(a), spd(b)), (gaussian(4, 4), gaussian(4, 4, seed=1))),
    "frechet_distance": (
        lambda mu, a, nu, b: mt.frechet_distance(mu, spd(a), nu, spd(b)),
        (gaussian(4), gaussian(4, 4, seed=1), gaussian(4, seed=2), gaussian(4, 4, seed=3)),
    ),
    "solve_sylvester": (
        lambda a, b, c: mt.solve_sylvester(spd(a), spd(b), c),
        (gaussian(4, 4), gaussian(3, 3, seed=1), gaussian(4, 3, seed=2)),
    ),
    "solve_lyapunov": (lambda a, q: mt.solve_lyapunov(-spd(a), symmetric(q)), (gaussian(4, 4), gaussian(4, 4, seed=1))),
    "solve_discrete_lyapunov": (
        lambda a, q, e: mt.solve_discrete_lyapunov(a / 4, q, e=spd(e)),
        tuple(gaussian(4, 4, seed=seed) for seed in range(3)),
    ),
    "solve_care": (
        lambda a, b, q, r: mt.solve_care(a, b, spd(q), spd(r)),
        (gaussian(3, 3), gaussian(3, 2, seed=1), gaussian(3, 3, seed=2), gaussian(2, 2, seed=3)),
    ),
    "solve_dare, complex": (
        lambda a, b, q, r, e, s: mt.solve_dare(a, b, hermitian(q), hermitian(r), e=hermitian(e), s=s / 9),
        tuple(
            complex_gaussian(*shape, seed=seed)
            for seed, shape in enumerate(((2, 2), (2, 1), (2, 2), (1, 1), (2, 2), (2, 1)))
        ),
    ),
    "eigh": (lambda a: mt.eigh(symmetric(a)), (gaussian(2, 4, 4),)),
    "eigh, complex": (lambda a: mt.eigh(hermitian(a)), (complex_gaussian(3, 3),)),
    "polar": (mt.polar, (gaussian(2, 5, 3),)),
    "polar, wide and complex": (mt.polar, (complex_gaussian(2, 4),)),
}


def backward(loss: Tensor) -> None:
    """The backward pass, which torch leaves untyped."""
    torch.autograd.backward([loss])


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """Every gradient agrees with central differences, at equal eigenvalues and shifted rank deficiency too."""
    function, inputs = CASES[name]

    assert torch.autograd.gradcheck(function, inputs)


def test_every_differentiable_function_has_a_case() -> None:
    """No function of the catalogue that has a gradient is left out of the cases above."""
    tried = {name.partition(",")[0].partition(" ")[0] for name in CASES}

    assert tried == set(DIFFERENTIABLE) == set(mt.__all__)


OPERANDS = {
    "root": ((spd(gaussian(2, 4, 4)), None), '{"r": 3}'),
    "inv_root": ((spd(gaussian(4, 4)), gaussian(2, 3, 4)), '{"r": 4}'),
    "sqrt_pair": ((spd(gaussian(4, 4)),), "{}"),
    "msign": ((gaussian(5, 3),), "{}"),
    "tri_solve": ((lower(gaussian(4, 4)), gaussian(2, 4, 2)), "{}"),
    "frechet_distance": ((gaussian(4), spd(gaussian(4, 4)), gaussian(4), spd(gaussian(4, 4, seed=1))), "{}"),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_operators_are_what_torch_asks_of_operators(name: str) -> None:
    """Schema, autograd, shapes without numbers and traces of the operators pass torch's own checks."""
    inputs, arguments = OPERANDS[name]
    leaves = [item if item is None else item.detach().requires_grad_() for item in inputs]

    torch.library.opcheck(getattr(torch.ops.matfn, name).default, (*leaves, arguments, 0))


def test_compiles_into_one_graph(local: matfn.LocalClient) -> None:
    """torch.compile takes a training step in whole, with a client or without, and computes the same gradient."""

    def loss(m: Tensor, client: matfn.LocalClient | None) -> Tensor:
        value: Tensor = (mt.inv_root(spd(m), 2, damping=0, client=client) * 3).square().sum()
        return value

    for client in (None, local):
        plain, compiled = gaussian(4, 4), gaussian(4, 4)
        backward(loss(plain, client))
        backward(torch.compile(loss, backend="aot_eager", fullgraph=True)(compiled, client))

        torch.testing.assert_close(compiled.grad, plain.grad)


def test_shapes_without_numbers() -> None:
    """Under FakeTensorMode values have their shapes and dtypes, and nothing is computed."""
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.zeros(2, 5, 3))
        means, covariance = (mode.from_tensor(torch.zeros(shape, dtype=torch.complex64)) for shape in ((3,), (3, 3)))
        distance = mt.frechet_distance(means, covariance, means, covariance)
        values = [mt.msign(fake), *mt.sqrt_pair(fake @ fake.mT), mt.inv_root(fake @ fake.mT, 2, g=fake.mT)]

    assert [tuple(value.shape) for value in values] == [(2, 5, 3), (2, 5, 5), (2, 5, 5), (2, 3, 5)]
    assert (distance.shape, distance.dtype) == ((), torch.float32)


def test_functorch_maps_and_differentiates() -> None:
    """A vmap over some inputs is one call for all, and equals a loop; grad of it equals autograd's."""
    a, g = spd(gaussian(3, 4, 4)).detach(), gaussian(2, 4).detach()

    mapped = torch.func.vmap(lambda item: mt.inv_root(item, 4, g=g))(a)
    gradients = torch.func.vmap(torch.func.grad(lambda item: mt.inv_root(item, 4, g=g).sum()))(a)

    leaf = a.clone().requires_grad_()
    looped = torch.stack([mt.inv_root(item, 4, g=g) for item in leaf])
    backward(looped.sum())
    torch.testing.assert_close(mapped, looped.detach())
    torch.testing.assert_close(gradients, leaf.grad)


def test_second_derivatives_are_refused() -> None:
    """A gradient is not differentiable, and says so."""
    m = gaussian(4, 3)
    (gradient,) = torch.autograd.grad(mt.msign(m)[0, 0], m, create_graph=True)

    with pytest.raises(NotImplementedError, match="second order"):
        backward(gradient.sum())


def test_a_client_that_is_gone_is_told() -> None:
    """The backward pass needs the client of the forward pass, and says so."""
    m = gaussian(4, 3)
    value = mt.msign(m, client=matfn.LocalClient())
    gc.collect()

    with pytest.raises(LookupError, match="keep it until the last backward pass"):
        backward(value.sum())


def test_copies_of_a_client_are_clients_of_their_own() -> None:
    """A copy, deep or pickled or with other options, has a handle of its own."""
    original = matfn.Client("http://127.0.0.1:1", max_retries=0)
    unpickled = pickle.loads(pickle.dumps(original))  # noqa: S301 - our own
    copies = [copy.deepcopy(original), unpickled, original.with_options(timeout=1)]

    assert len({client.handle for client in (original, *copies)}) == 4


def test_vectors_are_right_hand_sides() -> None:
    """A vector as b gives a vector, compiled or not, and gradients of its shape."""
    t, b = lower(gaussian(4, 4)).detach(), gaussian(4)

    value = mt.tri_solve(t, b)
    compiled = torch.compile(mt.tri_solve, backend="aot_eager", fullgraph=True)(t, b)

    assert torch.autograd.gradcheck(lambda one: mt.tri_solve(t, one), (b,))
    torch.testing.assert_close(value, torch.linalg.solve(t, b))
    torch.testing.assert_close(compiled, value)


def test_warnings_point_at_the_callers_line(local: matfn.LocalClient) -> None:
    """A value, compiled too, and a gradient in the backward pass warn where the caller's program is, not in torch."""
    nearly = torch.eye(2) + torch.tensor([[0.0, 4e-6], [0.0, 0.0]])
    compiled = torch.compile(lambda a: 2 * mt.root(a, 2, client=local), backend="eager")
    a = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64)).requires_grad_()

    with pytest.warns(matfn.ApproximateWarning) as of_value:
        mt.root(nearly, 2, client=local)
    with pytest.warns(matfn.ApproximateWarning) as of_compiled:
        compiled(nearly)
    value = mt.eig_clip(a, hi=2.0, client=local)
    with pytest.warns(matfn.ApproximateWarning, match="bound") as of_gradient:
        backward(value.sum())

    assert {one[0].filename for one in (of_value, of_compiled, of_gradient)} == {__file__}


def test_dtypes_are_promoted() -> None:
    """float32 beside float64 is float64, compiled or not, and each gradient has the dtype of its input."""
    a, g = spd(gaussian(4, 4)).detach().float().requires_grad_(), gaussian(2, 4)

    value = mt.inv_root(a, 2, g=g, damping=0)
    compiled = torch.compile(mt.inv_root, backend="aot_eager", fullgraph=True)(a, 2, g=g, damping=0)
    backward(value.sum())

    assert value.dtype == compiled.dtype == torch.float64
    assert a.grad is not None
    assert a.grad.dtype == torch.float32


def test_method_and_precision_are_those_of_the_value() -> None:
    """A value by a named method in float32 has a gradient, which is computed in float64."""
    m = gaussian(4, 3).detach().float().requires_grad_()

    backward(mt.msign(m, method="newton_schulz", precision="fp32")[0, 0])

    assert m.grad is not None
    assert torch.isfinite(m.grad).all()


def test_what_replaces_the_function_has_no_gradient() -> None:
    """Explicit steps of msign are refused in the backward pass, by name."""
    with pytest.raises(matfn.InvalidParameter, match="only without steps"):
        backward(mt.msign(gaussian(4, 3), steps=30).sum())


def test_a_client_of_another_kind_is_refused() -> None:
    """A client whose methods are coroutines is named in a TypeError."""
    with pytest.raises(TypeError, match="client is AsyncClient"):
        mt.msign(gaussian(3, 3), client=matfn.AsyncClient())  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(0, 3, 3), (0, 0), (1, 1), (2, 0, 3)])
def test_empty_and_single_matrices_have_gradients(shape: tuple[int, ...]) -> None:
    """No matrices, matrices of no numbers and numbers alone have gradients of their shape."""
    m = gaussian(*shape)

    backward(mt.msign(m).sum())

    assert m.grad is not None
    assert m.grad.shape == m.shape


def test_errors_are_the_clients() -> None:
    """A matrix outside the domain raises what a client's method raises."""
    with pytest.raises(matfn.NotPositive):
        mt.inv_root(-EYE, 4)


def test_whitening_learns_as_torchs_own_does() -> None:
    """A few steps of a layer that whitens give the losses of the same layer by torch.linalg.eigh."""

    def by_eigh(c: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(c)
        root: Tensor = (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT
        return root

    def losses(inverse_root: Callable[[Tensor], Tensor]) -> list[float]:
        weights, inputs = gaussian(6, 6).detach().requires_grad_(), gaussian(50, 6, seed=1).detach()
        target, history = gaussian(50, 6, seed=2).detach(), []
        optimizer = torch.optim.SGD([weights], lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            features = (inputs @ weights).tanh()
            whitened = features @ inverse_root(features.mT @ features / 50 + 1e-3 * torch.eye(6, dtype=torch.float64))
            loss = (whitened - target).square().mean()
            backward(loss)
            optimizer.step()
            history.append(loss.item())
        return history

    assert losses(lambda c: mt.inv_root(c, 2)) == pytest.approx(losses(by_eigh), rel=1e-9)


@pytest.mark.parametrize("given", [torch.eye(2).numpy(), [[1.0, 0.0], [0.0, 1.0]], 3.0])
def test_what_is_no_tensor_is_refused_in_words(given: object) -> None:
    """Functions of tensors say so to who has an array or a list."""
    with pytest.raises(TypeError, match=r"m is .*; the functions of matfn.torch take tensors"):
        mt.msign(given)  # type: ignore[arg-type] # what a user without a type checker passes

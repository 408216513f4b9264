import torch

from lort_hub.heads.solvers.descent import descend


def test_descent_stops_at_its_bound_and_sums_its_terms():
    calls = []
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    centre, scale = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([1.0, 30.0, 900.0])

    def terms():
        calls.append(1)
        for k in range(3):
            yield scale[k] * (x[k] - centre[k]).square()

    descend(terms, [x], tolerance=0.0, max_iterations=2)
    assert not torch.allclose(x.detach(), centre.double())
    assert len(calls) < 20
    descend(terms, [x], tolerance=1e-10, max_iterations=100)
    torch.testing.assert_close(x.detach(), centre.double())

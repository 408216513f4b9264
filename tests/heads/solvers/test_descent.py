import torch

from lort_hub.heads.solvers.descent import descend


def test_descent_stops_at_its_bound_and_sums_its_terms(device):
    calls = []
    x = torch.zeros(3, dtype=torch.float64, device=device).requires_grad_()
    centre, scale = (torch.tensor(v).to(device) for v in ([1.0, -2.0, 3.0], [1.0, 30.0, 900.0]))

    def terms():
        calls.append(1)
        for k in range(3):
            yield scale[k] * (x[k] - centre[k]).square()

    descend(terms, [x], tolerance=0.0, max_iterations=2)
    assert not torch.allclose(x.detach(), centre.double())
    assert len(calls) < 20
    descend(terms, [x], tolerance=1e-10, max_iterations=100)
    torch.testing.assert_close(x.detach().cpu(), centre.double().cpu())

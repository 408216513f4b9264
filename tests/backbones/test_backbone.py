import torch

from lort_hub.backbones.load import load_backbone


def test_fingerprint_changes_with_any_weight_or_buffer():
    backbone = load_backbone("test_resnet", pretrained=False)
    before, own = backbone.fingerprint(), {id(p) for p in backbone.classifier.parameters()}
    for name, tensor in backbone.model.state_dict(keep_vars=True).items():
        original = (last := tensor.detach().view(-1)[-1:]).clone()
        last.copy_(last + 1 if last.dtype == torch.int64 else torch.nextafter(last, last + 1))
        assert (backbone.fingerprint() == before) is (id(tensor) in own), name
        last.copy_(original)
    assert backbone.fingerprint() == before

"""Small models with weights to run recipes on."""

import torch
from torch import nn


def as_if_trained(model):
    """Random where initialisation is near 0 or 1, so that no layer is the identity."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.std() < 0.03:
            nn.init.kaiming_normal_(module.weight)
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.ndim == 1 and name in ("weight", "running_var"):
                tensor.data.uniform_(0.8, 1.2)
            elif tensor.ndim == 1 and name in ("bias", "running_mean"):
                tensor.data.normal_(0.0, 0.1)
    return model.eval()


def timm_folder(folder, seed=1):
    """A small timm model for images of 64 pixels, with weights, so that several runs share one backbone."""
    import timm

    torch.manual_seed(seed)
    sizes = dict.fromkeys(("input_size", "test_input_size"), (3, 64, 64))
    model = timm.create_model("test_resnet", num_classes=5, pretrained_cfg_overlay=sizes)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def transformers_folder(folder):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(1)
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config.image_size, config.patch_size, config.num_labels = 32, 8, 5
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
